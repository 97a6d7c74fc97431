"""The story of `python -m trainer compare`: run what is missing, hold the rows against each other, say what to use."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from schemas.files import write_atomically
from trainer import comparison_report, findings, runs, verdict
from trainer.bootstrap import Difference
from trainer.findings import Findings
from trainer.lock import held
from trainer.metrics import METRICS
from trainer.runs import Failure
from trainer.variants import Plan
from trainer.verdict import Verdict, p_text

Say = Callable[[str], None]


def compare(plan: Plan, output: Path, say: Say, fresh: bool = False) -> bool:
    """Writes comparison.json and report.html into `output`; returns whether every run succeeded.

    Finished rows in output/runs are kept, so a call that was interrupted goes on where it was.

    Raises:
      OutputError: `output` cannot be written, or another run holds it.
      ProjectError: no run has finished, or variants were measured on different clicks.
    """
    with held(output):
        root = output / "runs"
        failures = runs.finish(runs.runs_of(plan, root), say, fresh)
        found = findings.findings(findings.collect(plan, root), plan)
        told = verdict.verdict(found, plan.settings.decision, failures)
        text = json.dumps(document(found, told, plan, failures), indent=1, allow_nan=False) + "\n"
        resolved = yaml.safe_dump(_configurations(plan), sort_keys=False)
        write_atomically(output / "configurations.yaml", resolved.encode())
        write_atomically(output / "comparison.json", text.encode())
        write_atomically(output / "report.html", comparison_report.page(found, told, plan, failures).encode())
    say("\n" + table(found))
    if found.pairs:
        say("\n" + pairs_table(found))
    say("\n" + "\n".join(told.lines))
    say(f"\nfigures: {output / 'comparison.json'}\nreport:  {output / 'report.html'}")
    return not failures


def document(found: Findings, told: Verdict, plan: Plan, failures: Sequence[Failure]) -> dict[str, Any]:
    """comparison.json."""
    figures = {
        name: values | {"metrics": {metric: interval._asdict() for metric, interval in values["metrics"].items()}}
        for name, values in found.figures.items()
    }
    pairs = [
        {
            "first": pair.first,
            "second": pair.second,
            "differences": {metric: _plain(value) for metric, value in pair.differences.items()},
        }
        for pair in found.pairs
    ]
    return {
        "clicks": found.clicks,
        "settings": plan.settings.model_dump(mode="json", by_alias=True, include={"seeds", "decision", "resamples"}),
        "recommendation": verdict.as_json(told),
        "variants": figures,
        "pairs": pairs,
        "time_to": found.time_to,
        "failed": [vars(failure) for failure in failures],
    }


def table(found: Findings) -> str:
    """Quality and cost side by side for a terminal, the best first."""
    columns = [*METRICS, "coverage", "negatives", "produce s", "train s", "bytes/click", "read/s", "step ms", "MiB"]
    rows = [["", *columns]]
    for name, figures in found.figures.items():
        cost = figures["cost"]
        quality = [f"{figures['metrics'][metric].mean:.3f}" for metric in METRICS]
        memory = cost["peak_memory_bytes"]
        rows.append([
            name + (" (peer)" if figures["peer"] else ""),
            *quality,
            shown(figures["coverage@10"], ".3f"),
            shown(figures["negatives"], ",d"),
            *(shown(cost[key], ",.0f") for key in ("seconds_to_produce", "seconds_to_train", "bytes_per_click")),
            shown(cost["read_examples_per_second"], ",.0f"),
            shown(cost["step_ms"], ".1f"),
            shown(None if memory is None else memory / (1 << 20), ",.0f"),
        ])  # fmt: skip
    return _columns(rows)


def pairs_table(found: Findings) -> str:
    """Paired differences with their 95% intervals; a star where p < .05."""
    rows = [["", *METRICS]]
    rows += [
        [f"{pair.first} - {pair.second}", *(_gap(pair.differences[metric]) for metric in METRICS)]
        for pair in found.pairs
    ]
    return _columns(rows)


def shown(value: float | None, form: str, missing: str = "-") -> str:
    """A number as text, or what stands for one that is not known."""
    return missing if value is None else format(value, form)


def _gap(found: Difference) -> str:
    star = "*" if found.p < 0.05 else " "
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{star}"


def _plain(found: Difference) -> dict[str, Any]:
    return found._asdict() | {"p_text": p_text(found.p)}


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        name, *cells = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *cells]).rstrip())
    return "\n".join(lines)


def _configurations(plan: Plan) -> dict[str, Any]:
    """Each variant's dataset and whole trainer configuration, as they were run but for the seed."""
    return {
        variant.name: {"data": variant.uri, **variant.config.model_dump(mode="json", exclude={"seed"})}
        for variant in plan.variants
    }
