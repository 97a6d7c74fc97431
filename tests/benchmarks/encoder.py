"""What a core puts on the disk: the job's tasks against a loop of `tf.train.Example` and `tf.io.TFRecordWriter`.

    python -m tests.benchmarks.encoder --output DIR

Measured are draws, exclusion of the click's own item, attributes, encoding, frames, checksums and writing: the two
tasks of a job, `with_negatives` and `written`, as they are, without what Spark does around them (it hands over Arrow
batches and sorts them in between). Both sides run in turn on one core, and their figures are medians of processor
seconds, the system's included: on a machine with other work, seconds by the wall say little. Our shards are also
flushed to the disk, which the loop does not do and which costs no processor time. Every run checks that both files hold
what they should.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from pipelines import negatives, records
from pipelines.plan import Plan
from pipelines.publication import Publication
from tests.benchmarks import encoder_check, encoder_per_row
from tests.benchmarks.encoder_input import Shop, batches, prepared, shop

COUNTS = (20, 100)
CANDIDATES = 4_000_000  # negatives that ours draws a run
LOOP_SHARE = 64  # the loop is given so many times fewer clicks, as it takes so much longer for each


@dataclass(frozen=True)
class Run:
    """Processor seconds of the steps of one run, and its seconds by the wall."""

    steps: dict[str, float]
    wall: float
    path: Path


def ours(plan: Plan, given: list[pa.RecordBatch]) -> Run:
    """One task of each kind over these clicks."""
    drawn, drawing = _timed(lambda: list(negatives.with_negatives(given, plan)))
    order = [("place", "ascending"), ("order", "ascending")]
    ordered = pa.Table.from_batches(drawn).sort_by(order).combine_chunks().to_batches(20_000)
    result, writing = _timed(lambda: list(records.written(ordered, plan)))
    steps = {"draw": drawing[0], "write": writing[0]}
    return Run(steps, drawing[1] + writing[1], Path(plan.root) / result[0]["path"][0].as_py())


def loop(
    path: Path, clicks: encoder_per_row.Clicks, items: encoder_per_row.Items, alias: encoder_per_row.Alias, count: int
) -> Run:
    """The loop over these clicks."""
    _, spent = _timed(lambda: encoder_per_row.write(path, clicks, items, alias, count, seed=7))
    return Run({"loop": spent[0]}, spent[1], path)


def measure(
    folder: Path, counts: tuple[int, ...] = COUNTS, rounds: int = 5, whole: Shop | None = None
) -> dict[str, Any]:
    """Figures by layout and count of negatives; `folder` holds what is written meanwhile.

    Raises:
      AssertionError: a file that does not hold what it should.
    """
    before = os.sched_getaffinity(0), pa.cpu_count()
    os.sched_setaffinity(0, {min(before[0])})
    pa.set_cpu_count(1)
    try:
        whole = shop() if whole is None else whole
        return {"clicks_in_log": len(whole.user), "items": whole.items.num_rows, "rounds": rounds,
                "results": [_compared(folder, whole, count, rounds) for count in counts]}  # fmt: skip
    finally:
        os.sched_setaffinity(0, before[0])
        pa.set_cpu_count(before[1])


def _compared(folder: Path, whole: Shop, count: int, rounds: int) -> dict[str, Any]:
    given = whole.first(max(1, CANDIDATES // count))
    few = given.first(max(1, len(given.user) // LOOP_SHARE))
    runs: dict[str, list[Run]] = {"row": [], "block": [], "loop": []}
    found: dict[str, encoder_check.Candidates] = {}
    with Publication(str(folder), True) as publication:
        plans, vocabularies = prepared(whole, publication, count)
        truth = encoder_check.Truth.of(whole, vocabularies)
        items, clicks = truth.for_loop(), truth.clicks(few)
        alias = encoder_per_row.Alias(items.probability)
        handed = batches(given)
        for number in range(rounds):
            for layout, plan in plans.items():
                runs[layout].append(ours(plan, handed))
                if not number:
                    found[layout] = encoder_check.candidates(runs[layout][0].path, plan.record)
                runs[layout][-1].path.unlink()
            runs["loop"].append(loop(folder / "loop.tfrecord", clicks, items, alias, count))
            if not number:
                found["loop"] = encoder_check.candidates(runs["loop"][0].path, plans["row"].record)
            runs["loop"][-1].path.unlink()
    for name, sample in (("row", given), ("block", given), ("loop", few)):
        truth.check(found[name], sample, count)
    found["row"].check_same(found["block"])
    bytes_a_click = {name: found[name].bytes / len(found[name].item) for name in found}
    return _figures(
        count, runs, {"row": len(given.user), "block": len(given.user), "loop": len(few.user)}, bytes_a_click
    )


def _figures(
    count: int, runs: dict[str, list[Run]], clicks: dict[str, int], bytes_a_click: dict[str, float]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"negatives": count}
    by_loop = [sum(run.steps.values()) / clicks["loop"] for run in runs["loop"]]
    for name, own in runs.items():
        each = [sum(run.steps.values()) / clicks[name] for run in own]
        figures[name] = {
            "clicks": clicks[name],
            "clicks_a_cpu_second": round(1 / statistics.median(each)),
            "clicks_a_wall_second": round(clicks[name] / statistics.median(run.wall for run in own)),
            "times_the_loop": round(statistics.median(a / b for a, b in zip(by_loop, each, strict=True)), 1),
            "microseconds_a_click": {
                step: round(1e6 * statistics.median(run.steps[step] for run in own) / clicks[name], 2)
                for step in own[0].steps
            },
            "bytes_a_click": round(bytes_a_click[name], 1),
        }
    return figures


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """(what work gives, (processor seconds, seconds by the wall))."""
    wall, own = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.process_time() - own, time.perf_counter() - wall)


def table(measured: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{'negatives':>9}  {'':6} {'clicks/cpu s':>12} {'x loop':>7} {'us a click (draw + write)':>26} {'bytes':>7}"
    ]
    for figures in measured["results"]:
        for name in ("loop", "row", "block"):
            own = figures[name]
            steps = " + ".join(f"{value:.2f}" for value in own["microseconds_a_click"].values())
            lines.append(
                f"{figures['negatives']:>9}  {name:6} {own['clicks_a_cpu_second']:>12,} {own['times_the_loop']:>7} "
                f"{steps:>26} {own['bytes_a_click']:>7.0f}"
            )
    return "\n".join(lines)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for encoder.json.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each side, in turn.")
def main(output: Path, rounds: int) -> None:
    """The record encoder against tf.train.Example and TFRecordWriter."""
    output.mkdir(parents=True, exist_ok=True)
    measured = measure(output / "encoder-work", rounds=rounds)
    (output / "encoder.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    click.echo(table(measured))


if __name__ == "__main__":
    main()
