"""What asking for items of a partitioned catalogue costs: bytes and CPU seconds a click, step by step, without Spark.

    python -m tests.benchmarks.lookups FOLDER --items 1000000 --width 64 --clicks 100000 --layout block

CPU seconds are those of this process, so that they hold on a machine that is at work on other things. Bytes are those
of Arrow batches as they are and compressed with LZ4, as Spark's shuffles are. One JSON document on stdout.
"""

import itertools
import json
import resource
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from pipelines import mapped_files
from pipelines.lookups import Lookups
from pipelines.partitions import Encoder, Partitions
from pipelines.plan import Plan
from pipelines.tallies import Cells
from samplers import rng
from samplers.mass import exact_sum, whole
from samplers.mixture import weights
from samplers.proposal import weighed
from schemas import wire
from schemas.record import Field, RecordSpec

GROUP = 1 << 15  # clicks that a task of whole users emits together
HISTORY, BLOCK, SHARDS = 10, 512, 8
PROPOSAL: list = [("popularity", 0.9, {"exponent": 0.75}), ("uniform", 0.1, {})]


def catalogue(folder, items, width, parts):
    """(the plan of a job on a partitioned catalogue, masses of its items)."""
    random = np.random.default_rng(1)
    fields = (
        Field("item_id", "vocabulary", "item_id", "scalar", items + 1),
        Field("category", "vocabulary", "category", "scalar", 1_001),
        Field("content", "none", "content", width),
    )
    counts = np.sort(np.minimum(random.pareto(1.0, items) * 5, 10**6).astype(np.int64))[::-1].copy()
    found = weighed(PROPOSAL, counts)
    mass = whole(weights(found, [exact_sum(part) for _, part in found]))
    edges = np.linspace(0, items, parts + 1).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(mass)])
    values = pa.table({"category": pa.array([["", *map(str, range(1_000))]], pa.large_list(pa.large_string()))})
    mapped_files.store(folder / "values.arrow", values)
    encoder, paths = Encoder(folder, fields, str(folder / "values.arrow"), (("item_id", items + 1),), (0, 1)), []
    for part, (begin, end) in enumerate(itertools.pairwise(edges.tolist())):
        vectors = random.random((end - begin) * width, np.float32)
        table = pa.table({
            "key": pa.array(np.arange(begin, end)), "title": pa.array([""] * (end - begin)),
            "count": pa.array(counts[begin:end]), "number": pa.array(np.arange(begin, end)),
            "item_id": pa.array(np.arange(begin, end)), "category": pa.array(random.integers(0, 1_000, end - begin)),
            "content": pa.ListArray.from_arrays(
                pa.array(np.arange(0, len(vectors) + 1, width, dtype=np.int32)), pa.array(vectors)
            ),
        })  # fmt: skip
        paths.append(encoder.store(part, table, begin, int(ends[begin]), mass[begin:end]))
    cells = Cells(np.zeros(0, np.int64), np.ones(1), np.array([0, items]))
    Partitions(edges, ends[edges], cells, tuple(paths), "", (0, 1)).store(folder / "partitions.json")
    record = RecordSpec((), fields, ("item_id", "category"), HISTORY, "row", 1, 20, "click")
    plan = Plan("", "", str(folder / "partitions.json"), fields, record, "exclude", (), "error", 1, 0, SHARDS, "none",
                partitions=parts)  # fmt: skip
    return plan, mass


def drawn(mass, clicks, negatives, layout):
    """Batches as tasks of whole users emit them: clicks fall on items as often as these are drawn."""
    random, ends = np.random.default_rng(2), np.cumsum(mass)
    records = -(-clicks // BLOCK)
    for begin in range(0, clicks, GROUP):
        count = min(GROUP, clicks - begin)
        place = random.integers(0, records, count) if layout == "block" else begin + np.arange(count)
        positions = rng.positions(rng.keyed(3, begin + np.arange(count))[:, None], np.arange(negatives)[None, :])
        known = rng.positions(rng.keyed(4, begin + np.arange(count))[:, None], np.arange(HISTORY + 1)[None, :])
        known = np.searchsorted(ends, known, side="right").astype("<i4")
        yield pa.RecordBatch.from_pydict({
            "part": pa.array((place % SHARDS).astype(np.int32)), "place": pa.array(place),
            "order": pa.array(begin + np.arange(count)), "positive": pa.array(known[:, 0]),
            "history": wire.binary_array(known[:, 1:].copy(), np.arange(count + 1) * 4 * HISTORY).cast(pa.binary()),
            "negatives": wire.binary_array(
                (-1 - positions).astype("<i8"), np.arange(count + 1) * 8 * negatives
            ).cast(pa.binary()),
        })  # fmt: skip


class Measured:
    """CPU seconds by step, and bytes by kind of row."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, list[int]] = {}

    def timed(self, name, task, *arguments):
        """The result of a task."""
        begun = time.process_time()
        result = task(*arguments)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begun
        return result

    def sized(self, name, batch):
        """Counts a batch, whose empty columns cost nothing."""
        plain = batch.nbytes
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
            stream.write_batch(batch)
        sizes = self.bytes.setdefault(name, [0, 0])
        sizes[0] += plain
        sizes[1] += len(sink.getvalue())


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--items", default=1_000_000)
@click.option("--width", default=64)
@click.option("--parts", default=5)
@click.option("--clicks", default=100_000)
@click.option("--negatives", default=20)
@click.option("--layout", type=click.Choice(["row", "block"]), default="block")
def main(folder, items, width, parts, clicks, negatives, layout):
    """Ask, answer and tell, and say what it took."""
    folder.mkdir(parents=True, exist_ok=True)
    plan, mass = catalogue(folder, items, width, parts)
    found, measured = Lookups(plan), Measured()
    requests, passing = [], []
    for batch in drawn(mass, clicks, negatives, layout):
        measured.sized("clicks", batch)
        clicks_again, asked = measured.timed("ask", lambda batch=batch: list(found.asking(iter)([batch])))
        measured.sized("requests", asked.select(["part", "to", "asked"]))
        passing.append(clicks_again)
        requests.append(asked)
    table = pa.Table.from_batches(requests)
    answers = []
    for to in range(parts):
        mine = table.filter(pa.compute.equal(table["to"], to)).sort_by("part").combine_chunks()
        for answer in measured.timed("answer", lambda mine=mine: list(found._answering(mine.to_batches()))):
            if answer.num_rows:
                measured.sized("answers", answer.select(["part", "place", "answer", "sizes", "features"]))
                answers.append(answer)
    told, rows = pa.Table.from_batches([*passing, *answers]), 0
    for part in range(SHARDS):
        own = told.filter(pa.compute.equal(told["part"], part)).sort_by("place").combine_chunks()
        places = np.unique(own["place"].to_numpy())
        for some in np.array_split(places, max(1, len(places) // (16 if layout == "block" else 8_192))):
            chunk = own.filter(pa.compute.is_in(own["place"], value_set=pa.array(some))).combine_chunks()
            table, _ = measured.timed("tell", found.told_to, chunk)
            rows += table.num_rows
    if rows != clicks:
        raise SystemExit(f"{rows} of {clicks} clicks came through")
    click.echo(json.dumps({
        "items": items, "width": width, "parts": parts, "clicks": clicks, "layout": layout, "negatives": negatives,
        "cpu_us_a_click": {name: round(seconds / clicks * 1e6, 2) for name, seconds in measured.seconds.items()},
        "bytes_a_click": {name: round(plain / clicks, 1) for name, (plain, _) in measured.bytes.items()},
        "lz4_bytes_a_click": {name: round(small / clicks, 1) for name, (_, small) in measured.bytes.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
