"""The ways a catalogue is kept, as a job and its tasks see them: mapped as a whole, or partitioned.

`mapped` (pipelines/mapped.py): one file that every worker maps. `partitioned` (pipelines/partitioned.py): in parts that
no task holds two of; what a task needs of single items comes to it. Both say the same words, so that the steps of a job
and the code that draws and encodes are one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from samplers.availability import Availability
from samplers.exclusion import Exclusion
from samplers.proposal import Proposal
from samplers.same_attribute import Groups
from samplers.unique import UniquePools
from samplers.unique_clicks import UniqueClicks
from schemas.manifest import Split, StoredFile
from schemas.record import Field
from schemas.table import Table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class ItemsAtHand(Protocol):
    """What a task knows of items: all of the catalogue, or those that its clicks mention, counted from 0 in their
    order. `indices` are their places in the whole catalogue.
    """

    reference_type: str

    def __len__(self) -> int: ...

    @property
    def index_of_number(self) -> Ints: ...

    @property
    def counts(self) -> Ints: ...

    @property
    def cells(self) -> Cells: ...

    @property
    def groups(self) -> list[Groups]: ...

    @property
    def proposal(self) -> Proposal: ...

    @property
    def availability(self) -> Availability | None: ...

    @property
    def pools(self) -> UniquePools | None: ...

    @property
    def clicks(self) -> UniqueClicks | None: ...

    def items_of(self, clicks: pa.Table) -> Ints:
        """[n] the items of clicks."""
        ...

    def indices(self, items: Ints) -> Ints:
        """The item_index of each."""
        ...

    def references(self, drawn: Ints) -> Ints:
        """What names the draws of `proposal` to whoever knows all items."""
        ...

    def refusing(self, exclusion: Exclusion) -> Any:
        """What may not be drawn, told of the draws of `proposal`."""
        ...

    @property
    def tables(self) -> Mapping[str, Table]:
        """By feature, what records take it from; list features have one of their lengths; and `index` of indices."""
        ...

    def log_expected(self, items: Ints, count: int) -> Floats: ...


class Source(Protocol):
    """Where tasks get items from. catalogue: what is there without any click."""

    @property
    def catalogue(self) -> ItemsAtHand: ...

    def joined(self, clicks: DataFrame) -> DataFrame:
        """Clicks, whole users a partition, with what tasks must be told of their items."""
        ...

    def asking(self, task: Task) -> Task:
        """The task that draws, and asks for the items that its clicks mention."""
        ...

    def schema(self, drawn: str) -> str:
        """DDL of the rows of such a task."""
        ...

    def answered(self, drawn: DataFrame) -> DataFrame:
        """Its rows with answers among them."""
        ...

    def met_by(self, clicks: pa.Table) -> ItemsAtHand:
        """What a task that draws knows of items."""
        ...

    def told_to(self, rows: pa.Table) -> tuple[pa.Table, ItemsAtHand]:
        """(clicks among the rows of some records, their items), as a writing task takes them."""
        ...


@dataclass(frozen=True)
class ClickCounts:
    """Clicks of each split and a hash of all. by_number: training clicks by item number, for `Items.catalogue`."""

    totals: tuple[int, int, int]
    hash: str
    by_number: Any


@dataclass(frozen=True)
class Figures:
    """items; clicked: in training. counted: of positive frequency. decile_edges: [11] see `tallies.decile_edges`."""

    items: int
    clicked: int
    counted: int
    decile_edges: Ints


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


def source_of(plan: Plan) -> Source:
    """Where the tasks of a plan get items from."""
    if plan.partitions:
        from pipelines.lookups import Lookups

        return Lookups(plan)
    from pipelines.mapped import Mapped

    return Mapped.of(plan)
