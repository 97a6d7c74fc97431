"""Which click belongs to which block, before any click is moved.

Blocks are consecutive runs of B clicks in the shuffled order of an epoch. That order is a hash of the click key, so a
click's place in it is known anywhere; what is not known is where each block ends. One small job finds those boundaries:
it sorts the hashes (8 bytes a click of an epoch) in ranges of at least 1,024 blocks and keeps every B-th. Every block
then holds exactly B clicks but the last of each range. Tasks write the boundaries, 8 bytes a block, into the work
folder.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines.plan import Plan, range_of, signed, unsigned

BLOCKS_A_RANGE = 1024

Keys = npt.NDArray[np.uint64]


def store_boundaries(clicks: DataFrame, plan: Plan, training_clicks: int, work: Path) -> tuple[str, ...]:
    """Paths of one array of boundaries an epoch: block b holds the clicks with b boundaries at or below their order."""
    size, epochs = plan.record.clicks, plan.epochs
    ranges = max(1, training_clicks // (size * BLOCKS_A_RANGE))

    def ordered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            keys = batch["click_key"].to_numpy()
            for epoch in range(epochs):
                order = plan.order(keys, epoch)
                part = epoch * ranges + range_of(order, ranges)
                yield pa.RecordBatch.from_arrays(
                    [pa.array(part.astype(np.int32)), pa.array(signed(order))], ["part", "order"]
                )

    def every_last(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        kept, seen, part = [], 0, 0
        for batch in batches:
            if not batch.num_rows:
                continue
            part = batch["part"][0].as_py()
            first = -seen % size if seen or part % ranges else size
            kept.append(batch["order"].to_numpy()[first::size])
            seen += batch.num_rows
        if seen:
            np.save(_path(work, part), unsigned(np.concatenate(kept)), allow_pickle=False)
            yield pa.RecordBatch.from_arrays([pa.array([part], pa.int32())], ["part"])

    rows = clicks.where("split = 0").select("click_key").mapInArrow(ordered, "part int, order long")
    parts = (
        rows.repartitionById(epochs * ranges, "part").sortWithinPartitions("order").mapInArrow(every_last, "part int")
    )
    written = {row.part for row in parts.collect()}
    paths = []
    for epoch in range(epochs):
        pieces = [np.load(_path(work, p)) for p in range(epoch * ranges, (epoch + 1) * ranges) if p in written]
        path = work / f"boundaries-{epoch}.npy"
        np.save(path, np.concatenate(pieces) if pieces else np.zeros(0, np.uint64), allow_pickle=False)
        paths.append(str(path))
    return tuple(paths)


def _path(work: Path, part: int) -> Path:
    return work / f"boundaries-part-{part}.npy"
