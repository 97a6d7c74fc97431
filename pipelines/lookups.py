"""What tasks do where the catalogue is partitioned: ask for the items that records mention, and answer.

    clicks + places of their items -> draws, as positions -> requests, to the part of the catalogue that has the item
        -> answers: place, mass and encoded features, once for each record and item -> the record's shard

A request is 16 bytes, packed into one row for each part of the catalogue and shard that a group of users meets. Clicks
go the same way, past the catalogue, so that nothing is computed twice. A task that answers maps its own part and holds
`REQUESTS` of them; sorted by shard, so that what several clicks of a record ask for is answered once. The writing task
makes a little catalogue of the answers to a few records and encodes them as it would from the whole one.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines import mapped_files
from pipelines.item_source import Task
from pipelines.partitions import Partitions, blob_columns, read_partitions
from pipelines.plan import Plan
from pipelines.tallies import Cells
from samplers import rng
from samplers.exclusion import Exclusion
from samplers.inversion import InversionTable, Positions
from samplers.places import PlacedExclusion, PlacedProposal, with_gaps
from samplers.proposal import CatalogueProposal
from samplers.same_attribute import Groups
from schemas import wire
from schemas.table import Table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

REQUESTS = 1 << 20  # that a task looks at together; some 100 bytes each while they are sorted
ANSWER_BYTES = 16 << 20  # of features that it gives at a time
PLACES = ("item_index", "item_begin", "item_mass")  # what clicks carry of their items
ADDED = {"to": "int", "asked": "binary", "answer": "binary", "sizes": "binary", "features": "binary"}


@dataclass(frozen=True)
class Few:
    """The items at hand in a task: index, begin, mass [m] of each, rising; cells of the whole catalogue."""

    index: Ints
    mass: Ints
    cells: Cells
    proposal: CatalogueProposal
    reference_type = "<i8"
    availability = pools = clicks = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def groups(self) -> list[Groups]:
        """None: what depends on the click's own item needs the whole catalogue."""
        return []

    @property
    def index_of_number(self) -> Ints:
        """Of nothing but themselves: clicks come with indices."""
        return np.arange(len(self))

    @property
    def counts(self) -> Ints:
        """Not at hand."""
        raise ValueError("training counts are not told with items; catalogue.kind: mapped has them")

    def indices(self, items: Ints) -> Ints:
        """The item_index of each."""
        return self.index[items]

    def references(self, drawn: Positions) -> Ints:
        """Positions as references: below 0, where an item_index never is."""
        return -1 - drawn

    def refusing(self, exclusion: Exclusion) -> PlacedExclusion:
        """What may not be drawn, told of positions."""
        return PlacedExclusion(exclusion, self.proposal.table)

    def log_expected(self, items: Ints, count: int) -> Floats:
        """log of the expected count of items among `count` draws."""
        return self.proposal.log_expected(items, count)


@dataclass(frozen=True)
class Clicked(Few):
    """Those that some users clicked, with the gaps between them: item j of them has number 2 j + 1."""

    @classmethod
    def of(cls, clicks: pa.Table, cells: Cells) -> "Clicked":
        """The items of clicks that carry `PLACES`."""
        index, begin, mass = (clicks[name].to_numpy().astype(np.int64) for name in PLACES)
        index, first = np.unique(index, return_index=True)
        table = with_gaps(begin[first], mass[first])
        numbered = np.full(2 * len(index) + 1, -1, np.int64)
        numbered[1::2] = index
        return cls(numbered, table.mass, among(cells, numbered), PlacedProposal(table))

    def items_of(self, clicks: pa.Table) -> Ints:
        """[n] the items of clicks."""
        items: Ints = 2 * np.searchsorted(self.index[1::2], clicks["item_index"].to_numpy()) + 1
        return items

    @property
    def tables(self) -> dict[str, Table]:
        """Not at hand."""
        raise ValueError("features are not told with clicks; they come with the answers to a record's requests")


@dataclass(frozen=True)
class Told(Few):
    """Those that some records mention, with their features. pieces: the fragments by `blob_columns`."""

    pieces: dict[str, pa.LargeBinaryArray]

    def items_of(self, clicks: pa.Table) -> Ints:
        """[n] the items of clicks that are told by their index."""
        return self.at_index(clicks["positive"].to_numpy().astype(np.int64))

    @functools.cached_property
    def tables(self) -> dict[str, Table]:
        """What records take items from, and their indices."""
        return {name: Table(found) for name, found in {"index": wire.int_fragments(self.index), **self.pieces}.items()}

    def at_index(self, index: Ints) -> Ints:
        """The items with these indices."""
        item = np.searchsorted(self.index, index)
        return self._checked(item, self.index[np.minimum(item, len(self) - 1)] == index)

    def at_reference(self, reference: Ints) -> Ints:
        """The items that references name, by their index or by a position on them."""
        placed = reference < 0
        item = np.empty(len(reference), np.int64)
        item[~placed] = self.at_index(reference[~placed])
        position, end = -1 - reference[placed], self.proposal.end
        found = np.searchsorted(end - self.mass, position, side="right") - 1
        item[placed] = self._checked(found, position < end[found])
        return item

    def _checked(self, item: Ints, there: Bools) -> Ints:
        if not there.all():
            raise ValueError(f"{int((~there).sum())} items that records mention were not told to the writing task")
        return item


def among(cells: Cells, index: Ints) -> Cells:
    """The cells of items with these indices (-1 for none: the first)."""
    cell = np.maximum(np.searchsorted(cells.first, index, side="right") - 1, 0)
    return Cells(cell, cells.probability, cells.first)


@dataclass(frozen=True)
class Lookups:
    """Where tasks get items from: see `pipelines.catalogues.Source`."""

    plan: Plan

    @property
    def partitions(self) -> Partitions:
        """How the catalogue is cut."""
        return read_partitions(self.plan.catalogue)

    @property
    def catalogue(self) -> Told:
        """No item."""
        return self._told(np.zeros((0, 3), np.int64), np.zeros((0, self._columns), np.int64), b"")

    @property
    def _columns(self) -> int:
        return len(blob_columns(self.plan.item_fields))

    def joined(self, clicks: DataFrame) -> DataFrame:
        """Clicks with `PLACES`: a join by item, and users put together again."""
        places = clicks.sparkSession.read.parquet(self.partitions.places)
        return clicks.join(places, "number").repartition("user")

    def asking(self, task: Task) -> Task:
        """The task, with requests among its rows."""

        def asking(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in task(batches):
                yield self._passing(batch)
                requests = self._requests(batch)
                if requests is not None:
                    yield requests

        return asking

    def schema(self, drawn: str) -> str:
        """The task's rows, with room for requests and answers."""
        return ", ".join([drawn, *(f"`{name}` {kind}" for name, kind in ADDED.items())])

    def answered(self, drawn: DataFrame) -> DataFrame:
        """Clicks and answers, of which each has the part and place of its record."""
        sorted_ = drawn.repartitionById(self.plan.partitions, "to").sortWithinPartitions(F.col("part"))
        return sorted_.mapInArrow(self._answering, drawn.schema)

    @property
    def order(self) -> tuple[str, ...]:
        """Of clicks, and of answers by the place of their record."""
        return "place", "order"

    def telling(self, task: Task, _clicks: pa.Schema) -> Task:
        """The task as it is."""
        return task

    def met_by(self, clicks: pa.Table) -> Clicked:
        """The items that these clicks are on."""
        return Clicked.of(clicks, self.partitions.cells)

    def told_to(self, rows: pa.Table) -> tuple[pa.Table, Told]:
        """(clicks among rows, their items)."""
        answers = pc.is_valid(rows["answer"])
        clicks, given = rows.filter(pc.invert(answers)).combine_chunks(), rows.filter(answers).combine_chunks()
        refs = _packed(given["answer"], "<i8").reshape(-1, 3)
        sizes = _packed(given["sizes"], "<i4").reshape(-1, self._columns)
        offsets, data = wire.buffers_of(_whole(given["features"]))
        told = self._told(refs, sizes, data, int(offsets[0]) if len(offsets) else 0)
        return self._by_items(clicks, told), told

    def _told(self, refs: Ints, sizes: Ints, data: Any, start: int = 0) -> Told:
        # Of several answers about one item, the one with most features.
        order = np.lexsort((-sizes.sum(axis=1), refs[:, 0]))
        index, first = np.unique(refs[order, 0], return_index=True)
        chosen, columns = order[first], blob_columns(self.plan.item_fields)
        offsets = start + np.concatenate([[0], np.cumsum(sizes.reshape(-1), dtype=np.int64)])
        everything = wire.binary_array(data, offsets)
        pieces = {
            name: everything.take(pa.array(chosen * len(columns) + number)) for number, name in enumerate(columns)
        }
        begin, mass = refs[chosen, 1], refs[chosen, 2]
        table = InversionTable(mass, begin + mass, np.zeros(0, np.int32))
        return Told(index, mass, among(self.partitions.cells, index), CatalogueProposal(table), pieces)

    def _by_items(self, clicks: pa.Table, told: Told) -> pa.Table:
        """Clicks with the items at hand in place of references; what they know is told by index alone."""
        positive = told.items_of(clicks)
        clicks = clicks.set_column(
            clicks.schema.get_field_index("positive"), "positive", pa.array(positive.astype(np.int32))
        )
        for name, kind, found in (("history", "<i4", told.at_index), ("negatives", "<i8", told.at_reference)):
            if name not in clicks.column_names:
                continue
            column = _whole(clicks[name])
            items = found(_values(column, kind).astype(np.int64)).astype("<i4")
            offsets = (wire.buffers_of(column)[0] - wire.buffers_of(column)[0][0]) // np.dtype(kind).itemsize * 4
            clicks = clicks.set_column(clicks.schema.get_field_index(name), name, wire.binary_array(items, offsets))
        return clicks

    def _passing(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows that only pass by the catalogue, evenly spread."""
        order = pc.fill_null(batch["order"], 0).to_numpy(zero_copy_only=False)
        to = (rng.mixed(order.view(np.uint64)) % np.uint64(self.plan.partitions)).astype(np.int32)
        nothing = pa.nulls(batch.num_rows, pa.binary())
        columns = [*batch.columns, pa.array(to), nothing, nothing, nothing, nothing]
        return pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, *ADDED])

    def _requests(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """One row for each part of the catalogue and shard: (place, twice the reference, and one more for a candidate).

        Items of histories are asked for with the features that histories have.
        """
        place = batch["place"].to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(place >= 0)
        if not len(rows):
            return None
        batch = batch.take(pa.array(rows))
        place, part = batch["place"].to_numpy(), batch["part"].to_numpy()
        owners, references, whole = [np.arange(len(rows))], [batch["positive"].to_numpy().astype(np.int64)], [1]
        for name, kind, full in (("history", "<i4", 0), ("negatives", "<i8", 1)):
            if name not in batch.schema.names:
                continue
            column = batch[name]
            values = _values(column, kind).astype(np.int64)
            lengths = pc.binary_length(column).to_numpy() // np.dtype(kind).itemsize
            owners.append(np.repeat(np.arange(len(rows)), lengths))
            references.append(values)
            whole.append(full)
        owner, reference = np.concatenate(owners), np.concatenate(references)
        wanted = reference * 2 + np.repeat(whole, [len(values) for values in references])
        to = self.partitions.of_references(reference)
        key = to * self.plan.parts + part[owner]
        order = np.argsort(key, kind="stable")
        keys, begins = np.unique(key[order], return_index=True)
        packed = np.stack([place[owner], wanted], axis=1)[order].astype("<i8")
        asked = wire.binary_array(packed, 16 * np.append(begins, len(order)))
        columns: dict[str, Any] = {
            "part": pa.array((keys % self.plan.parts).astype(np.int32)),
            "to": pa.array((keys // self.plan.parts).astype(np.int32)),
            "asked": asked.cast(pa.binary()),
        }
        return self._row(batch.schema, columns, len(keys))

    def _row(self, schema: pa.Schema, columns: dict[str, Any], count: int) -> pa.RecordBatch:
        """Rows with these columns alone."""
        kinds = dict(zip(schema.names, schema.types, strict=True)) | dict.fromkeys(ADDED, pa.binary())
        kinds["to"] = pa.int32()
        arrays = [columns[name] if name in columns else pa.nulls(count, kind) for name, kind in kinds.items()]
        return pa.RecordBatch.from_arrays(arrays, names=list(kinds))

    def _answering(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows that pass by, and answers to requests; rows are sorted by the part of their record."""
        held: list[tuple[Ints, Ints]] = []
        count, to, schema = 0, 0, None
        for batch in batches:
            schema, asks = batch.schema, pc.is_valid(batch["asked"])
            yield batch.filter(pc.invert(asks))
            asking = batch.filter(asks)
            if not asking.num_rows:
                continue
            to = asking["to"][0].as_py()
            requests = _packed(asking["asked"], "<i8").reshape(-1, 2)
            sizes = pc.binary_length(asking["asked"]).to_numpy() // 16
            held.append((np.repeat(asking["part"].to_numpy(), sizes), requests))
            count += len(requests)
            if count >= REQUESTS:
                yield from self._answers(held, to, schema)
                held, count = [], 0
        if held:
            yield from self._answers(held, to, schema)

    def _answers(self, held: list[tuple[Ints, Ints]], to: int, schema: Any) -> Iterator[pa.RecordBatch]:
        part = np.concatenate([own for own, _ in held]).astype(np.int64)
        place, wanted = np.concatenate([requests for _, requests in held]).T
        catalogue = mapped_files.mapped(self.partitions.paths[to])
        first, end, mass = self.partitions.first[to], catalogue["end"].to_numpy(), catalogue["mass"].to_numpy()
        reference, whole = wanted >> 1, wanted & 1
        row = reference - first
        placed = reference < 0
        row[placed] = np.searchsorted(end, -1 - reference[placed], side="right")
        order = np.lexsort((1 - whole, row, place, part))  # of two requests for one item, the whole one first
        part, place, row, whole = part[order], place[order], row[order], whole[order]
        new = np.ones(len(row), bool)
        new[1:] = (np.diff(part) != 0) | (np.diff(place) != 0) | (np.diff(row) != 0)
        for full, name in ((1, "whole"), (0, "history")):
            kept = np.flatnonzero(new & (whole == full))
            blobs = catalogue[name].chunk(0)
            mean = max(1, blobs.nbytes // max(len(blobs), 1))
            size = max(1, ANSWER_BYTES // mean)
            shown = [number for number in range(self._columns) if full or number in self.partitions.history_columns]
            for begin in range(0, len(kept), size):
                some = kept[begin : begin + size]
                sizes = np.zeros((len(some), self._columns), "<i4")
                sizes[:, shown] = (
                    catalogue["sizes"].chunk(0).flatten().to_numpy().reshape(-1, self._columns)[row[some]][:, shown]
                )
                refs = np.stack([first + row[some], (end - mass)[row[some]], mass[row[some]]], axis=1).astype("<i8")
                heads = np.ones(len(some), bool)
                heads[1:] = (np.diff(part[some]) != 0) | (np.diff(place[some]) != 0)
                starts = np.append(np.flatnonzero(heads), len(some))
                columns: dict[str, Any] = {
                    "part": pa.array(part[some][starts[:-1]].astype(np.int32)),
                    "place": pa.array(place[some][starts[:-1]]),
                    "answer": wire.binary_array(refs, 24 * starts).cast(pa.binary()),
                    "sizes": wire.binary_array(sizes, sizes.shape[1] * 4 * starts).cast(pa.binary()),
                    "features": wire.regrouped(blobs.take(pa.array(row[some])), starts).cast(pa.binary()),
                }
                yield self._row(schema, columns, len(starts) - 1)


def _whole(column: Any) -> pa.LargeBinaryArray:
    """A binary column in one piece."""
    return (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(pa.large_binary())


def _values(column: Any, kind: str) -> npt.NDArray[Any]:
    """The numbers of all lists of a binary column, one list after the other."""
    offsets, data = wire.buffers_of(_whole(column))
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].view(kind)


def _packed(column: Any, kind: str) -> npt.NDArray[Any]:
    return _values(column, kind).astype(np.int64)
