"""Which rows of a comparison are missing, and a process for each: what is finished is never run again.

A row belongs to a run if its identity is the same: the dataset's content and format, the whole resolved configuration,
the seed, and how folding is measured. Runs take turns, as they are timed. A run that fails leaves log.txt in its folder
and the others go on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.files import write_atomically
from trainer import rows
from trainer.variants import Plan, Variant

LOG, JOB = "log.txt", "job.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One variant with one seed, and where its row goes."""

    variant: Variant
    seed: int
    folder: Path
    job: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A run without a row, and why."""

    variant: str
    seed: int
    reason: str


def runs_of(plan: Plan, root: Path) -> list[Run]:
    """Every run of the comparison, seed by seed, so that an interrupted one has something of each variant."""
    return [_run(plan, variant, seed, root) for seed in range(1, plan.settings.seeds + 1) for variant in plan.variants]


def _run(plan: Plan, variant: Variant, seed: int, root: Path) -> Run:
    manifest = plan.datasets[variant.data].manifest
    config = variant.config.model_copy(update={"seed": seed}).model_dump(mode="json")
    folding = plan.settings.folding.model_dump() if plan.settings.folding else None
    identity = rows.identity({
        "content_digest": manifest.content_digest,
        "schema_fingerprint": manifest.schema_fingerprint,
        "configuration": config,
        "folding": folding,
    })  # fmt: skip
    folder = rows.folder(root, variant.name, seed)
    job = {
        "data": variant.uri, "variant": variant.name, "seed": seed, "configuration": config, "folding": folding,
        "identity": identity, "folder": str(folder),
    }  # fmt: skip
    return Run(variant, seed, folder, job)


def finish(runs: list[Run], say: Say, fresh: bool = False) -> list[Failure]:
    """Runs what has no row yet (`fresh`: everything), one process after the other; returns what failed."""
    missing = [run for run in runs if fresh or not rows.is_finished(run.folder, run.job["identity"])]
    say(f"{len(runs)} runs; {len(runs) - len(missing)} of them are finished from before, {len(missing)} to go")
    failures = []
    started = time.perf_counter()
    for number, run in enumerate(missing, 1):
        began = time.perf_counter()
        reason = _process(run)
        seconds = time.perf_counter() - began
        name = f"{number}/{len(missing)} {run.variant.name}, seed {run.seed}"
        if reason is not None:
            failures.append(Failure(run.variant.name, run.seed, reason))
            say(f"{name}: FAILED after {seconds:.0f} s: {reason} ({run.folder / LOG})")
            continue
        test = rows.read(run.folder).result["test"]
        left = (time.perf_counter() - started) / number * (len(missing) - number)
        told = ", ".join(f"{metric} {test[metric]:.3f}" for metric in ("recall@10", "recall@50") if metric in test)
        say(f"{name}: {told}, {seconds:.0f} s" + (f"; about {left / 60:.0f} min left" if left else ""))
    return failures


def _process(run: Run) -> str | None:
    """Runs trainer/measurement.py on a job; None when its row is there, else the reason why it is not."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / rows.RESULT).unlink(missing_ok=True)
    job, log = run.folder / JOB, run.folder / LOG
    write_atomically(job, (json.dumps(run.job, indent=1) + "\n").encode())
    command = [sys.executable, "-m", "trainer.measurement", str(job)]
    with log.open("wb") as stream:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False).returncode
    if code == 0 and rows.is_finished(run.folder, run.job["identity"]):
        return None
    if code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"
