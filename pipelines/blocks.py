"""Which record a click belongs to, before any click is moved.

Records are consecutive runs of clicks, or of windows of clicks of about one length, in the shuffled order of an epoch.
That order is a hash of the click key, so a place in it is known anywhere; what is not known is where each record ends.
One small job finds those boundaries: it sorts the hashes (8 bytes a click or window of an epoch) in ranges of at least
1,024 records and keeps every B-th. Every record is then full but the last of each range. Tasks write the boundaries, 8
bytes a record, into the work folder.
"""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines import history
from pipelines.grouping import whole_users
from pipelines.plan import Plan, range_of, signed, unsigned
from pipelines.split import TRAIN
from pipelines.training_examples import chosen
from pipelines.windows import windows

RECORDS_A_RANGE = 1024
USER_CLICKS = 1 << 15  # clicks a step holds at least, so that numpy's fixed costs vanish

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def by_user(clicks: DataFrame) -> DataFrame:
    """Clicks for `grouping.whole_users`, users whole in a partition; no sort where they are kept in that order."""
    return clicks.sortWithinPartitions("user", "time", "number")


def store_boundaries(clicks: DataFrame, plan: Plan, examples: int, work: Path) -> tuple[str, ...]:
    """Paths of one array of boundaries for each drawn epoch and class: record b begins behind b boundaries.

    examples: clicks that the records of one set of negatives hold.
    """
    kinds, epochs = len(plan.classes), len(plan.drawn_epochs)
    ranges = max(1, examples // (plan.record.clicks * RECORDS_A_RANGE))
    found = _windows if plan.record.window else _examples if plan.examples_per_user else _clicks

    def ordered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for epoch, kind, order in found(batches, plan):
            part = ((epoch - plan.first_epoch) * kinds + kind) * ranges + range_of(order, ranges)
            yield pa.RecordBatch.from_arrays(
                [pa.array(part.astype(np.int32)), pa.array(signed(order))], ["part", "order"]
            )

    def every_last(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        kept, seen, part, size = [], 0, 0, 1
        for batch in batches:
            if not batch.num_rows:
                continue
            part = batch["part"][0].as_py()
            size = plan.record.clicks // plan.classes[part // ranges % kinds]
            first = -seen % size if seen or part % ranges else size
            kept.append(batch["order"].to_numpy()[first::size])
            seen += batch.num_rows
        if seen:
            np.save(_path(work, part), unsigned(np.concatenate(kept)), allow_pickle=False)
            yield pa.RecordBatch.from_arrays([pa.array([part], pa.int32())], ["part"])

    if plan.record.window or plan.examples_per_user:
        rows = by_user(clicks).select("user", "time", "number", "split", "weight", "click_key")
    else:
        rows = clicks.where("split = 0 and weight > 0").select("click_key")
    parts = (
        rows.mapInArrow(ordered, "part int, order long")
        .repartitionById(epochs * kinds * ranges, "part")
        .sortWithinPartitions("order")
        .mapInArrow(every_last, "part int")
    )
    written = {row.part for row in parts.collect()}
    paths = []
    for group in range(epochs * kinds):
        own = [p for p in range(group * ranges, (group + 1) * ranges) if p in written]
        pieces = [np.load(_path(work, p), allow_pickle=False) for p in own]
        path = work / f"boundaries-{group}.npy"
        np.save(path, np.concatenate(pieces) if pieces else np.zeros(0, np.uint64), allow_pickle=False)
        paths.append(str(path))
    return tuple(paths)


def placed(plan: Plan, epoch: int, kind: Ints, order: Keys) -> tuple[Ints, Ints]:
    """(place, shard) of the record that each click or window belongs to, by its class and its place in the order.

    Places are the records' names within an epoch and their order in a shard, where classes are mixed evenly.
    """
    kinds = len(plan.classes)
    place, shard = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    for number in np.unique(kind):
        boundaries = _boundaries(plan.boundaries[(epoch - plan.first_epoch) * kinds + int(number)])
        own = kind == number
        record = np.searchsorted(boundaries, order[own], side="right").astype(np.int64)
        place[own] = (record << 32) // (len(boundaries) + 1) * kinds + number
        shard[own] = (record + number) % plan.shards
    return place, shard


def _clicks(batches: Iterable[pa.RecordBatch], plan: Plan) -> Iterator[tuple[int, Ints, Keys]]:
    """(epoch, class, order) of single clicks."""
    for batch in batches:
        keys = batch["click_key"].to_numpy()
        for epoch in plan.drawn_epochs:
            yield epoch, np.zeros(len(keys), np.int64), plan.order(keys, epoch)


def _examples(batches: Iterable[pa.RecordBatch], plan: Plan) -> Iterator[tuple[int, Ints, Keys]]:
    """The same of those clicks of sorted users that are examples."""
    for table in whole_users(batches, USER_CLICKS):
        first, keys = history.first_of_user(table["user"].chunk(0)), table["click_key"].to_numpy()
        able = (table["split"].to_numpy() == TRAIN) & (table["weight"].to_numpy() > 0)
        for epoch in plan.drawn_epochs:
            own = keys[chosen(first, able, keys, plan, epoch)]
            yield epoch, np.zeros(len(own), np.int64), plan.order(own, epoch)


def _windows(batches: Iterable[pa.RecordBatch], plan: Plan) -> Iterator[tuple[int, Ints, Keys]]:
    """(epoch, class, order) of the windows of sorted clicks."""
    for table in whole_users(batches, USER_CLICKS):
        first = history.first_of_user(table["user"].chunk(0))
        train = table["split"].to_numpy() == TRAIN
        for epoch in plan.drawn_epochs:
            found = windows(first, train, table["click_key"].to_numpy(), plan, epoch)
            yield epoch, found.kind, found.order


@functools.lru_cache(maxsize=256)  # a mapped file keeps a descriptor; often no more than 1,024 are allowed
def _boundaries(path: str) -> Keys:
    loaded: Keys = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded


def _path(work: Path, part: int) -> Path:
    return work / f"boundaries-part-{part}.npy"
