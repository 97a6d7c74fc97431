"""The ways a catalogue is kept, as the driver sees them: mapped as a whole, or partitioned.

`mapped` (pipelines/mapped.py): one file that every worker maps. `partitioned` (pipelines/partitioned.py): in parts that
no task holds two of; what a task needs of single items comes to it (pipelines/item_source.py). Both say the same words,
so that the steps of a job are one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines.kind import Kept
from pipelines.plan import Plan
from pipelines.publication import Publication
from pipelines.tallies import Cells
from samplers.same_attribute import Groups
from schemas.errors import DataError
from schemas.manifest import Split, StoredFile
from schemas.record import Field

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class ClickCounts:
    """Clicks of each split; rows, earliest and latest time and a hash of all, weight or not; None where there are none.

    by_number: training clicks by item number, for `Items.catalogue`.
    """

    totals: tuple[int, int, int]
    rows: int
    earliest: int | None
    latest: int | None
    hash: str
    by_number: Any

    def check(self) -> None:
        """Raises a DataError where no click is left to train on."""
        train, validation, test = self.totals
        if not train:
            raise DataError(
                f"split: no training click is left ({validation} for validation, {test} for test); "
                "move split.validation_from and test_from to a later time"
            )


@dataclass(frozen=True)
class Figures:
    """items; clicked: in training. counted: of positive frequency. decile_edges: [11] see `tallies.decile_edges`.

    gone: of the items, how many have left the item table.
    """

    items: int
    clicked: int
    counted: int
    decile_edges: Ints
    gone: int = 0


class Items(Protocol):
    """Items that were read and numbered by key, before any click was counted."""

    @property
    def kept(self) -> Kept: ...

    @property
    def read(self) -> int: ...

    @property
    def usable(self) -> int: ...

    @property
    def key_type(self) -> str:
        """Spark's name of the type of the keys."""
        ...

    def store_keys(self, path: Path) -> None: ...

    def counted(self, clicks: DataFrame) -> ClickCounts: ...

    def catalogue(self, clicks: DataFrame, counts: ClickCounts, unit: str) -> "BuiltCatalogue": ...


class BuiltCatalogue(Protocol):
    """The driver's view of a finished catalogue: items in the order of their training clicks, with their masses.

    limits: a hash of when items can be had. facts: what the manifest's `proposal` says of frequencies.
    """

    @property
    def fields(self) -> tuple[Field, ...]: ...

    @property
    def limits(self) -> str: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def figures(self) -> Figures: ...

    @property
    def cells(self) -> Cells: ...

    @property
    def groups(self) -> list[Groups]: ...

    def store(self, work: Path) -> tuple[Path, int]:
        """(what `Plan.catalogue` names, into how many parts it is cut)."""
        ...

    def vocabularies(self, publication: Publication) -> dict[str, StoredFile]:
        """vocabulary/<feature>.txt of each item feature, staged until the commit."""
        ...

    def item_split(self, plan: Plan) -> tuple[Split, int]:
        """Writes items/: one record an item, in `item_index` order; (its shards, their digest)."""
        ...
