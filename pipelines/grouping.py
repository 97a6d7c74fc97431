"""Cuts a stream of sorted Arrow batches where a group ends, so that users and blocks are never taken apart.

Spark hands a partition over in batches of its own choosing. Memory grows with the largest group: 40 bytes a click for
the clicks of one user, a few hundred for the clicks of one block.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc


def whole_groups(batches: Iterable[pa.RecordBatch], column: str, rows: int) -> Iterator[pa.Table]:
    """Tables of whole groups with at least `rows` rows each (but the last), from batches sorted by `column`."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for received in batches:
        batch = received
        while batch.num_rows:
            # Up to `rows`, any row will do; from there on, only those of the group that is under way.
            wanted = rows - held if held < rows else _end_of_group(pending[-1][column][-1], batch[column])
            if wanted:
                pending.append(batch.slice(0, wanted))
                held += pending[-1].num_rows
                batch = batch.slice(wanted)
            if batch.num_rows and held >= rows and not _end_of_group(pending[-1][column][-1], batch[column]):
                yield pa.Table.from_batches(pending).combine_chunks()
                pending, held = [], 0
    if pending:
        yield pa.Table.from_batches(pending).combine_chunks()


def _end_of_group(last: pa.Scalar, values: pa.Array) -> int:
    """How many of the values still belong to the group of the last one."""
    other = pc.index(pc.not_equal(values, last), True).as_py()
    return len(values) if other < 0 else int(other)
