"""Where tasks get items from: a mapped catalogue as a whole, or answers to what they ask a partitioned one.

Both say the same words, so that the code that draws and encodes is one. What the driver sees of either is in
`pipelines.catalogues`; nothing here needs what only the driver has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from pipelines import bundles
from pipelines.catalogue import Catalogue, mapped
from pipelines.plan import Plan
from pipelines.tallies import Cells
from samplers.availability import Availability
from samplers.exclusion import Exclusion
from samplers.proposal import Proposal
from samplers.same_attribute import Groups
from samplers.unique import UniquePools
from samplers.unique_clicks import UniqueClicks
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

    @property
    def order(self) -> tuple[str, ...]:
        """Columns that the rows of a shard are sorted by."""
        ...

    def telling(self, task: Task, clicks: pa.Schema) -> Task:
        """The task that writes, given the rows so sorted; clicks: what it wants of each."""
        ...

    def met_by(self, clicks: pa.Table) -> ItemsAtHand:
        """What a task that draws knows of items."""
        ...

    def told_to(self, rows: pa.Table) -> tuple[pa.Table, ItemsAtHand]:
        """(clicks among the rows of some records, their items), as a writing task takes them."""
        ...


@dataclass(frozen=True)
class Mapped:
    """All items, in every task."""

    plan: Plan

    @property
    def catalogue(self) -> Catalogue:
        """All of it."""
        return mapped(self.plan.catalogue, self.plan.item_fields)

    def joined(self, clicks: DataFrame) -> DataFrame:
        """The clicks as they are: their numbers are enough."""
        return clicks

    def asking(self, task: Task) -> Task:
        """The task with bundles for rows: there is nothing to ask for."""
        plan = self.plan
        return lambda batches: bundles.packed(task(batches), plan)

    def schema(self, _drawn: str) -> str:
        """Of bundles."""
        return bundles.SCHEMA

    def answered(self, drawn: DataFrame) -> DataFrame:
        """The rows as they are."""
        return drawn

    @property
    def order(self) -> tuple[str, ...]:
        """Of bundles."""
        return ("range",)

    def telling(self, task: Task, clicks: pa.Schema) -> Task:
        """The task, which sees the clicks in the bundles."""
        return lambda batches: task(bundles.opened(batches, clicks))

    def met_by(self, _clicks: pa.Table) -> Catalogue:
        """All items."""
        return self.catalogue

    def told_to(self, rows: pa.Table) -> tuple[pa.Table, Catalogue]:
        """(the rows, all items)."""
        return rows, self.catalogue


def source_of(plan: Plan) -> Source:
    """Where the tasks of a plan get items from."""
    if plan.partitions:
        from pipelines.lookups import Lookups  # which says `Task` as well

        return Lookups(plan)
    return Mapped(plan)
