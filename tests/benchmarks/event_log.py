"""What Spark writes of a run, read without Spark: stages with the seconds of their tasks, shuffles, jobs."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stage:
    """task_seconds: of each task, in falling order. shuffled_bytes: written for the next stage."""

    number: int
    task_seconds: tuple[float, ...]
    shuffled_bytes: int

    @property
    def longest(self) -> float:
        return self.task_seconds[0]

    @property
    def median(self) -> float:
        return statistics.median(self.task_seconds)


def settings(folder: Path) -> dict[str, str]:
    """Spark settings that make a run write its log into an existing folder."""
    return {
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": folder.absolute().as_uri(),
        "spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false",
    }  # fmt: skip


def stages(folder: Path) -> list[Stage]:
    """The stages of the one run that wrote into the folder, in the order of their numbers."""
    (path,) = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    with path.open(encoding="utf-8") as stream:
        return stages_of([json.loads(line) for line in stream])


def stages_of(events: list[dict[str, Any]]) -> list[Stage]:
    """The stages of tasks that ended well."""
    tasks: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event["Event"] == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "Success":
            tasks.setdefault(event["Stage ID"], []).append(event)
    return [
        Stage(
            number,
            tuple(sorted((_seconds(task["Task Info"]) for task in ended), reverse=True)),
            sum(task["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"] for task in ended),
        )
        for number, ended in sorted(tasks.items())
    ]


def _seconds(info: dict[str, Any]) -> float:
    return float(info["Finish Time"] - info["Launch Time"]) / 1000
