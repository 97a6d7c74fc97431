"""Our job against the two that people write, on the same log, each as a process of its own, alternating.

Everything counts, from the start of spark-submit to the last byte. All three draw K negatives a click by popularity to
the power 0.75, never the click's own item, without histories, and write shuffled records of one click with the full
attributes of each candidate and log_q; `ours, block` is the same content in the product's own layout. What each wrote
is read back and checked the first time. Ours does more that is not asked of the others: it counts rejected rows, builds
vocabularies by frequency, keeps a digest, checksums, a catalogue, and a test of its own draws.

Ours runs as `make` runs it, the others on Spark as pip installs it, as their users would; with `tuned` they are given
the options of our JVM too (pipelines/class_archive.py).
"""

import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import agreement
from tests.benchmarks.made_log import Log, made
from tests.benchmarks.ours import Job
from tests.benchmarks.process import Usage, watched

FOLDER = Path(__file__).parent
ITEMS, COUNT = 100_000, 20
OTHERS = {"naive join": "naive_join.py", "broadcast dict": "broadcast_dict.py"}
OURS = {"ours, row": "row", "ours, block": "block"}
LIMIT_SECONDS = 1_200.0
Say = Callable[[str], None]


@dataclass
class Run:
    """A program over a number of clicks: what each repetition took, what it wrote, what was wrong with it."""

    program: str
    clicks: int
    usages: list[Usage] = field(default_factory=list)
    bytes: int = 0
    wrong: list[str] | None = None  # not checked
    popularity: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Figures for the report; seconds are the median, None where no repetition came to its end."""
        ended = [usage for usage in self.usages if usage.ended and usage.code == 0]
        seconds = statistics.median(usage.seconds for usage in ended) if ended else None
        kinds = {kind for usage in ended for kind in usage.peaks}
        return {
            "program": self.program, "clicks": self.clicks, "repetitions": len(ended),
            "seconds": seconds, "all_seconds": [usage.seconds for usage in self.usages],
            "cpu_seconds": round(statistics.median(usage.cpu_seconds for usage in ended), 1) if ended else None,
            "clicks_per_second": round(self.clicks / seconds) if seconds else None,
            "bytes": self.bytes, "wrong": self.wrong, "popularity": self.popularity,
            "peak_bytes": {k: max(u.peaks[k].resident_bytes for u in ended if k in u.peaks) for k in sorted(kinds)},
            "cut_after_seconds": max((u.seconds for u in self.usages if not u.ended), default=None),
        }  # fmt: skip


def measure(
    folder: Path, sizes: dict[int, int], say: Say, limit_seconds: float = LIMIT_SECONDS, tuned: bool = False
) -> dict[str, Any]:
    """{rows, ratios} of all programs for numbers of clicks with their repetitions; a work folder is used and kept."""
    rows = []
    for clicks, repetitions in sizes.items():
        log = made(folder, Log(clicks, ITEMS, max(1_000, clicks // 10)))
        runs = {name: Run(name, clicks) for name in (*OTHERS, *OURS)}
        for repetition in range(repetitions):
            for name, run in runs.items():
                output = folder / name.replace(", ", "-").replace(" ", "-")
                shutil.rmtree(output, ignore_errors=True)
                usage = _once(name, log, output, limit_seconds, tuned)
                run.usages.append(usage)
                outcome = f"{usage.seconds:.1f} s, {usage.cpu_seconds:.0f} s of processors"
                if not usage.ended:
                    outcome = f"cut off after {usage.seconds:.0f} s"
                elif usage.code:
                    outcome = f"FAILED with exit code {usage.code}, see {output.with_suffix('.log')}"
                elif repetition == 0:
                    _inspect(name, log, output, run)
                    outcome += f", {run.bytes / 1e6:,.0f} MB" + ("" if not run.wrong else f"; WRONG: {run.wrong}")
                say(f"whole job, {clicks:,} clicks, {name}: {outcome}")
                shutil.rmtree(output, ignore_errors=True)
        rows += [run.row() for run in runs.values()]
    return {"items": ITEMS, "negatives": COUNT, "tuned": tuned, "rows": rows, "ratios": ratios(rows)}


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times faster ours is than each other program; a program that was cut off gives a lower bound."""
    seconds = {(row["program"], row["clicks"]): row["seconds"] or row["cut_after_seconds"] for row in rows}
    cut = {(row["program"], row["clicks"]) for row in rows if not row["seconds"]}
    return [
        {"clicks": clicks, "ours": own, "over": other, "ratio": round(seconds[other, clicks] / seconds[own, clicks], 2),
         "at_least": (other, clicks) in cut}
        for clicks in sorted({row["clicks"] for row in rows}) for own in OURS for other in OTHERS
        if seconds.get((other, clicks)) and seconds.get((own, clicks)) and (own, clicks) not in cut
    ]  # fmt: skip


def _once(name: str, log: Path, output: Path, limit_seconds: float, tuned: bool) -> Usage:
    if name in OURS:
        return Job(log, output, COUNT, OURS[name]).run(limit_seconds)
    inputs = [str(log / "clicks.parquet"), str(log / "items.parquet"), str(output), str(COUNT)]
    stock = [] if tuned else ["env", "--unset=SPARK_SUBMIT_OPTS"]
    return watched(
        [*stock, "spark-submit", str(FOLDER / OTHERS[name]), *inputs], output.with_suffix(".log"), limit_seconds
    )


def _inspect(name: str, log: Path, output: Path, run: Run) -> None:
    """Bytes, and for records of one click whether they are right."""
    files = Job(log, output).shards() if name in OURS else sorted((output / "train").glob("part-*"))
    run.bytes = sum(path.stat().st_size for path in files)
    if name in OURS and OURS[name] != "row":
        return
    # In a process of its own, as TensorFlow does not give its memory back.
    command = [sys.executable, "-m", "tests.benchmarks.agreement", str(log), str(output / "vocabulary"), str(COUNT)]
    told = watched([*command, *map(str, files)], output.with_suffix(".check"))
    run.wrong, run.popularity = agreement.told(output.with_suffix(".check"), told.code)
