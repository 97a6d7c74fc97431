"""Our job alone: what its time, its bytes and its memory grow with, and whether one user or item slows one task.

Clicks, negatives and items are varied one at a time around 200,000 clicks on 100,000 items with 20 negatives in blocks.
The skewed log has one user with two thirds of all clicks and one item with a third, and its twin without either.
"""

import shutil
from pathlib import Path
from typing import Any

from tests.benchmarks import event_log
from tests.benchmarks.made_log import Log, made
from tests.benchmarks.ours import Job
from tests.benchmarks.process import Usage
from tests.benchmarks.whole_job import Say

CLICKS, ITEMS, COUNT = 200_000, 100_000, 20
HISTORY = 50


def measure(folder: Path, varied: dict[str, list[int]], skewed_clicks: int, say: Say) -> dict[str, Any]:
    """{rows, skew}: figures by what was varied (`clicks`, `negatives`, `items`), and of the skewed log."""
    rows = []
    for what, values in varied.items():
        for value in values:
            sizes = {"clicks": CLICKS, "items": ITEMS, "negatives": COUNT, what: value}
            log = made(folder, Log(sizes["clicks"], sizes["items"], max(1_000, sizes["clicks"] // 10)))
            job = Job(log, folder / "growth", sizes["negatives"])
            usage = job.run()
            rows.append({"varied": what, **sizes, **figures(job, usage)})
            say(f"growth, {what} {value:,}: {told(rows[-1])}")
            shutil.rmtree(job.output, ignore_errors=True)
    return {"rows": rows, "skew": skew(folder, skewed_clicks, say)}


def figures(job: Job, usage: Usage) -> dict[str, Any]:
    """What a run took and wrote; bytes of the items stand apart, as they do not grow with clicks."""
    if usage.code:
        return {"failed": usage.code, "log": str(job.output.with_suffix(".log"))}
    manifest = job.manifest()
    train = manifest["splits"]["train"]
    return {
        "seconds": usage.seconds, "cpu_seconds": round(usage.cpu_seconds, 1),
        "seconds_by_step": manifest["timings_seconds"],
        "microseconds_a_click": round(usage.seconds / train["clicks"] * 1e6, 2),
        "bytes": train["bytes"], "bytes_a_click": round(train["bytes"] / train["clicks"], 1),
        "peak_bytes": {kind: peak.resident_bytes for kind, peak in usage.peaks.items() if kind != "launcher"},
        "own_bytes": {kind: peak.anonymous_bytes for kind, peak in usage.peaks.items() if kind != "launcher"},
    }  # fmt: skip


def told(row: dict[str, Any]) -> str:
    """A row in words."""
    if "failed" in row:
        return f"FAILED with exit code {row['failed']}, see {row['log']}"
    peaks = {kind: f"{number >> 20:,} MiB" for kind, number in row["peak_bytes"].items()}
    return (
        f"{row['seconds']:.1f} s, {row['microseconds_a_click']:.1f} us and {row['bytes_a_click']:,.0f} bytes a click; "
        f"at most {peaks.get('worker')} in a Python worker, {peaks.get('jvm')} in the JVM, {peaks.get('driver')} in "
        "the driver's Python"
    )


def skew(folder: Path, clicks: int, say: Say) -> dict[str, Any]:
    """Longest and median task of the stage that took longest, of an even log and of a skewed one of the same size."""
    found = {}
    users = clicks // 100
    logs = {"even": Log(clicks, ITEMS, users), "skewed": Log(clicks, ITEMS, users, clicks * 2 // 3, 1 / 3)}
    for name, log in logs.items():
        events = folder / f"events-{name}"
        shutil.rmtree(events, ignore_errors=True)
        events.mkdir(parents=True)
        job = Job(made(folder, log), folder / f"skew-{name}", history=HISTORY, settings=event_log.settings(events))
        usage = job.run()
        row = figures(job, usage)
        if "failed" not in row:
            # A stage that is over in a second has no skew to speak of.
            stages = [stage for stage in event_log.stages(events) if len(stage.task_seconds) > 1 and stage.longest > 1]
            row["stages"] = [
                {"stage": stage.number, "tasks": len(stage.task_seconds), "longest": stage.longest,
                 "median": stage.median, "shuffled_bytes": stage.shuffled_bytes}
                for stage in stages
            ]  # fmt: skip
            worst = max(stages, key=lambda stage: stage.longest - stage.median, default=None)
            if worst is not None:
                row |= {"longest_task": worst.longest, "median_task": worst.median}
        found[name] = row
        tasks = f"; longest task {row['longest_task']:.1f} s, median {row['median_task']:.1f} s" * (
            "longest_task" in row
        )
        say(f"skew, {clicks:,} clicks, {name}: {told(row)}{tasks}")
        shutil.rmtree(job.output, ignore_errors=True)
    return {"clicks": clicks, "history": HISTORY, **found}
