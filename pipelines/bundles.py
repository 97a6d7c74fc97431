"""Clicks on their way into shards, many in one value: Spark moves and sorts bundles, Python the clicks in them.

Spark takes up each value of a row four times on its way out of one Python task and into the next, and a click has ten
of them. So a task that draws packs its clicks by where they go, and Spark sees a hundred or more of them as one row:

    part    the shard
    range   a piece of the shard's order; a task that writes sorts one of them at a time
    rows    the clicks, an Arrow message without its schema, which both tasks know

A range has some 16 MiB of clicks, a bundle 16 KiB, or one click that is larger.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.batches import BUNDLE_BYTES, list_bytes
from pipelines.plan import NO_CLICK, Plan, range_of
from schemas import wire

SCHEMA = "part int, range int, rows binary"
RANGE_BYTES, RANGE_CLICKS = 16 << 20, 1 << 15
HELD_BYTES = 8 << 20  # of clicks that a task packs together, so that small shards have whole bundles too
_PLAIN_BYTES = 100  # of a click beside its lists

Ints = npt.NDArray[np.int64]


def ranges(plan: Plan, clicks: int) -> int:
    """Into how many ranges the order of each shard is cut, where a split or a set of negatives has so many clicks."""
    each = max((_PLAIN_BYTES + list_bytes(plan.record)) / RANGE_BYTES, 1 / RANGE_CLICKS)
    return max(1, math.ceil(clicks / plan.shards * each))


def packed(batches: Iterable[pa.RecordBatch], plan: Plan) -> Iterator[pa.RecordBatch]:
    """Rows of SCHEMA for rows of `negatives.row_schema`."""
    held, size = list[pa.RecordBatch](), 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= HELD_BYTES:
            whole, held, size = pa.concat_batches(held), [], 0
            yield _bundled(whole, plan)
    if held:
        yield _bundled(pa.concat_batches(held), plan)


def opened(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in bundles of one part, which come by rising range: no clicks first, then clicks in the order of the
    part. schema: of the rows.
    """
    held, current = list[pa.RecordBatch](), NO_CLICK
    for batch in batches:
        for found, rows in zip(batch["range"].to_pylist(), batch["rows"], strict=True):
            if found != current and held:
                yield _in_order(pa.concat_batches(held))
                held = []
            current = found
            held.append(pa.ipc.read_record_batch(rows.as_buffer(), schema))
    if held:
        yield _in_order(pa.concat_batches(held))


def _bundled(rows: pa.RecordBatch, plan: Plan) -> pa.RecordBatch:
    part, range_ = rows["part"].to_numpy(), _ranges(rows, plan)
    order = np.lexsort((range_, part))
    rows, part, range_ = rows.take(pa.array(order)), part[order], range_[order]
    heads = np.ones(len(order), bool)
    heads[1:] = (np.diff(part) != 0) | (np.diff(range_) != 0)
    starts = np.append(np.flatnonzero(heads), len(order))
    most = max(1, BUNDLE_BYTES * len(order) // max(1, rows.nbytes))
    begins = np.concatenate([np.arange(begin, end, most) for begin, end in pairwise(starts)])
    bounds = [*begins.tolist(), len(order)]
    messages = [rows.slice(begin, end - begin).serialize().to_pybytes() for begin, end in pairwise(bounds)]
    packed = wire.binary_array(b"".join(messages), np.cumsum([0, *map(len, messages)])).cast(pa.binary())
    columns = [pa.array(part[begins]), pa.array(range_[begins].astype(np.int32)), packed]
    return pa.RecordBatch.from_arrays(columns, names=["part", "range", "rows"])


def _ranges(rows: pa.RecordBatch, plan: Plan) -> Ints:
    """[n] the range of each row, which rises with its place in the shard."""
    place = rows["place"].to_numpy()
    # A click that is for itself has the upper 63 bits of its order for its place, a shard is a part of the order ...
    found = range_of(place.view(np.uint64) << np.uint64(1), plan.shards * plan.ranges) % plan.ranges
    if plan.record.layout != "row":  # ... a record has 32 bits and its class, spread evenly over each shard.
        train = rows["part"].to_numpy() < len(plan.drawn_epochs) * plan.shards
        found[train] = place[train] * plan.ranges // (len(plan.classes) << 32)
    found[place == NO_CLICK] = NO_CLICK
    return found


def _in_order(rows: pa.RecordBatch) -> pa.RecordBatch:
    if rows["place"][0].as_py() == NO_CLICK:
        return rows
    # Places of single clicks and of blocks rise with their order; those of windows are of several classes.
    keys = ("position", "order", "place") if "position" in rows.schema.names else ("order",)
    return rows.take(pa.array(np.lexsort([rows[name].to_numpy() for name in keys])))
