"""What a task needs to know: plain values, decided by the driver once, shipped to every executor.

No Spark, no pydantic and no handle to anything: a task reads the catalogue by its path and derives all else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from samplers import rng
from schemas.record import Field, RecordSpec, window_classes

Ints = npt.NDArray[np.int64]

# Purposes of random numbers, so that no two of them share a stream.
ORDER, POOL, DRAW, WINDOW, EXAMPLE, PART, BLOCK = 1, 2, 3, 4, 5, 11, 12

NO_CLICK = -1  # the place of a row on its way to a shard that is none: the expected draws of a task


@dataclass(frozen=True)
class Plan:
    """A job's decisions. epochs: sets of negatives of the dataset, of which those from `first_epoch` on are drawn.

    dependent: (strategy, slots, parameters) of those that depend on the click, in the order of the mixture.
    in_batch: the share of draws that other clicks of the block give. examples_per_user: 0 for no limit.
    held_out: whether any click may be for validation or test.
    catalogue: a path. partitions: how many the catalogue is cut into; 0 for one that is mapped as a whole.
    constant: columns that say the same of every click; see `split.constant`.
    ranges: how many the order of a shard is cut into, of which a task that writes holds one.
    heavy_users: how many tasks share each user of very many clicks; see `pipelines.heavy_users`.
    """

    root: str
    run: str
    catalogue: str
    item_fields: tuple[Field, ...]
    record: RecordSpec
    ties: str
    exclude: tuple[str, ...]
    shortage: str
    epochs: int
    seed: int
    shards: int
    compression: str
    boundaries: tuple[str, ...] = ()
    user_vocabularies: str = ""
    session_gap: int = 0
    dependent: tuple[tuple[str, int, dict[str, Any]], ...] = ()
    in_batch: float = 0.0
    first_epoch: int = 0
    examples_per_user: int = 0
    unique: bool | str = False  # or "tensorflow"
    held_out: bool = True
    partitions: int = 0
    constant: tuple[str, ...] = ()
    ranges: int = 1
    heavy_users: Mapping[Any, int] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[int, ...]:
        """Most clicks of what is put into records, one class a kind of record: windows by length, or single clicks."""
        return window_classes(self.record.window) if self.record.layout == "sequence" else (1,)

    @property
    def parts(self) -> int:
        """Tasks that write records: one a shard of each set of negatives, of validation and of test."""
        return (len(self.drawn_epochs) + (2 if self.held_out else 0)) * self.shards

    @property
    def drawn_epochs(self) -> range:
        """The sets of negatives that this run draws."""
        return range(self.first_epoch, self.epochs)

    def part(self, split: int, epoch: int, shard: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """The writing task of shards of a split; train comes first, epoch by epoch."""
        group = epoch - self.first_epoch if split == 0 else len(self.drawn_epochs) + split - 1
        return (group * self.shards + np.asarray(shard)).astype(np.int32)

    def split_and_epoch(self, part: int) -> tuple[int, int]:
        """What a writing task writes: the inverse of `part`."""
        group = part // self.shards
        held_out = group - len(self.drawn_epochs)
        return (0, self.first_epoch + group) if held_out < 0 else (1 + held_out, 0)

    def order(self, click_keys: npt.ArrayLike, epoch: int) -> rng.Keys:
        """Where each click stands in the shuffled training order of one epoch: by rising number."""
        return rng.keyed(self.seed, epoch, ORDER, click_keys)

    def draw_keys(self, click_keys: npt.ArrayLike, epoch: int) -> rng.Keys:
        """What decides the negatives of each click."""
        return rng.keyed(self.seed, epoch, DRAW, click_keys)

    def part_keys(self, click_keys: npt.ArrayLike, epoch: int, part: int) -> rng.Keys:
        """What decides what one of the `dependent` strategies draws for each click."""
        return rng.keyed(self.seed, epoch, PART, part, click_keys)

    def block_keys(self, orders: rng.Keys, epoch: int) -> rng.Keys:
        """What decides which draws of each click, told by its order, come from its block, and what those are."""
        return rng.keyed(self.seed, epoch, BLOCK, orders)

    def pool_keys(self, places: npt.ArrayLike, epoch: int) -> rng.Keys:
        """What decides the pool of each record, told by its place."""
        return rng.keyed(self.seed, epoch, POOL, places)

    def example_keys(self, click_keys: npt.ArrayLike, epoch: int) -> rng.Keys:
        """What decides which clicks of a user are examples: the lowest ones."""
        return rng.keyed(self.seed, epoch, EXAMPLE, click_keys)

    def window_keys(self, first_clicks: npt.ArrayLike, epoch: int) -> rng.Keys:
        """What decides where each user's clicks are cut."""
        return rng.keyed(self.seed, epoch, WINDOW, first_clicks)


def range_of(order: rng.Keys, ranges: int) -> Ints:
    """Which of so many equal ranges of the shuffled order each number lies in."""
    return (order >> np.uint64(33)).astype(np.int64) * ranges >> 31


def signed(order: rng.Keys) -> Ints:
    """The same order as signed numbers, as Spark has no others."""
    return (order ^ np.uint64(1 << 63)).view(np.int64)


def unsigned(order: Ints) -> rng.Keys:
    """What `signed` was given."""
    return order.view(np.uint64) ^ np.uint64(1 << 63)
