"""Cuts a stream of sorted Arrow batches where a group ends, so that users and blocks are never taken apart.

Spark hands a partition over in batches of its own choosing. Memory grows with the largest group: 40 bytes a click for
the clicks of one user, a few hundred for the clicks of one block.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.history import first_of_user


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


def whole_users(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same of clicks by user, time, number and click_key, from batches sorted by the first three of them.

    Few clicks are alike in those three, so that Spark need not sort all of them once more to tell such ones apart.
    """
    return map(_alike_in_order, whole_groups(batches, "user", rows))


def _alike_in_order(clicks: pa.Table) -> pa.Table:
    time, number, key = (clicks[name].to_numpy() for name in ("time", "number", "click_key"))
    alike = (time[1:] == time[:-1]) & (number[1:] == number[:-1])
    if not (alike & (key[1:] < key[:-1])).any():
        return clicks
    alike &= np.diff(first_of_user(clicks["user"].chunk(0))) == 0
    group = np.concatenate([[0], np.cumsum(~alike)])
    return clicks.take(pa.array(np.lexsort((key, group)))).combine_chunks()


def _end_of_group(last: pa.Scalar, values: pa.Array) -> int:
    """How many of the values still belong to the group of the last one."""
    other = pc.index(pc.not_equal(values, last), True).as_py()
    return len(values) if other < 0 else int(other)
