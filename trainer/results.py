"""The figures of a run as a table for the terminal and as metrics.json for programs."""

import json
from pathlib import Path
from typing import Any

from schemas.files import write_atomically
from schemas.manifest import Dataset
from trainer.evaluation import Assessment
from trainer.metrics import COLD_CLICKS, METRICS

COLUMNS = (*METRICS, "coverage@10", "clicks")


def document(assessed: dict[str, Assessment], speed: dict[str, float], data: Dataset, **more: Any) -> dict[str, Any]:
    """metrics.json: each split's metrics, for test those of cold, warm and most-popular too; speed; the dataset."""
    test = assessed["test"]
    manifest = data.manifest
    return {
        "test": test.model,
        "validation": assessed["validation"].model,
        "cold": test.cold,
        "warm": test.warm,
        "most_popular": test.most_popular,
        "speed": speed,
        "dataset": {"fingerprint": manifest.schema_fingerprint, "digest": manifest.content_digest},
        **more,
    }


def write(path: Path, values: dict[str, Any]) -> None:
    """Puts metrics.json in place as a whole."""
    write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def table(rows: dict[str, dict[str, float]]) -> str:
    """Metrics side by side for a terminal; "-" where a row has no such metric."""
    width = max((len(name) for name in rows), default=0)
    lines = [" " * width + "".join(f"{name:>13}" for name in COLUMNS)]
    for name, values in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"{shown(column, values):>13}" for column in COLUMNS))
    return "\n".join(lines)


def rows_of(assessed: dict[str, Assessment]) -> dict[str, dict[str, float]]:
    """The rows of the table that a run ends with."""
    test = assessed["test"]
    return {
        "test": test.model,
        "most popular": test.most_popular,
        f"cold items, <{COLD_CLICKS} clicks": test.cold,
        "warm items, the others": test.warm,
        "validation": assessed["validation"].model,
    }


def shown(column: str, values: dict[str, float], missing: str = "-") -> str:
    """One metric as text."""
    if column not in values:
        return missing
    return f"{int(values[column]):,}" if column == "clicks" else f"{values[column]:.3f}"
