"""The catalogue: every item once, encoded, with its training frequency and the proposal's table, in one mapped file.

The driver builds it from the item table, as it is small beside the clicks; executors map the Arrow file, so that all
workers of a machine share its pages and none parses anything. Rows are in `item_index` order: by falling training
clicks, or as an earlier day had them, new items behind (pipelines/inheritance.py). Clicks carry an item's `number` (its
position by key), known before any frequency is; `index_of_number` leads from there to the index.
Cost: the encoded items and 32 bytes an item (52 where draws are without replacement) on the driver, the same again as
shared pages on each machine.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import available, encoding, mapped_files
from pipelines.encoding import Fragments
from pipelines.tallies import Cells
from samplers.availability import Availability
from samplers.exclusion import Exclusion
from samplers.inversion import CELLS, InversionTable
from samplers.proposal import CatalogueProposal
from samplers.same_attribute import Groups
from samplers.unique import ONE, UniquePools
from samplers.unique_clicks import UniqueClicks
from samplers.unique_line import Line
from schemas import wire
from schemas.errors import DataError
from schemas.record import Field
from schemas.table import Table

if TYPE_CHECKING:  # a task needs no pydantic
    from pipelines.inheritance import Inherited
    from pipelines.input_config import Features

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CheckedItems:
    """Usable rows of the item table sorted by key, and the rejected ones: reason, row (JSON)."""

    table: pa.Table
    rejected: pa.Table
    read: int

    @property
    def numbers(self) -> pa.Table:
        """key, number: what clicks are joined with."""
        return self.table.select(["key"]).append_column("number", pa.array(np.arange(self.table.num_rows), pa.int32()))

    def in_unit(self, unit: str, guessed: bool) -> "CheckedItems":
        """The items with limits of availability in the unit of the clicks' times; see `available.in_unit`."""
        return replace(self, table=available.in_unit(self.table, unit, guessed))


def checked_items(table: pa.Table, features: "Features", where: str) -> CheckedItems:
    """Sorts items by `key` and sets aside those without a key, with one that is taken, or with unusable numbers.

    Args:
      table: columns `key` (int64 or string), `title`, one a feature, named after it, and the limits of `available`.

    Raises:
      DataError: a column of the wrong type, or no usable item.
    """
    checked = checked_part(table, features, where)
    if not checked.table.num_rows:
        raise no_usable_item(where, table.num_rows)
    return checked


def no_usable_item(where: str, read: int) -> DataError:
    """The error of an item table without any item to use."""
    return DataError(f"{where}: no usable item ({read} rows read); the catalogue would be empty")


def hash_of_limits(limits: Iterable[Ints]) -> str:
    """A hash of when items can be had."""
    found = hashlib.blake2b(digest_size=8)
    for values in limits:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def checked_part(table: pa.Table, features: "Features", where: str) -> CheckedItems:
    """The same of some rows of the item table: all those of the keys that are among them."""
    for name, spec in features.item.items():
        encoding.check_type(name, spec, table.schema.field(name).type, where)
    reason = np.full(table.num_rows, None, object)
    for name, spec in features.item.items():
        for text, rows in encoding.faults(name, spec, table[name].combine_chunks()):
            reason[rows] = text
    for text, beyond in available.faults(table):
        reason[beyond] = text
    table = available.checked(table)
    # Rows of one key are ordered by all they hold, so which of them stays does not depend on the order of reading.
    content = [""] * table.num_rows
    if pc.count_distinct(table["key"], mode="all").as_py() < table.num_rows:
        content = [repr(row) for row in table.drop_columns(["key"]).to_pylist()]
    usable = pa.array(np.array([1 if text else 0 for text in reason]))
    order = pc.sort_indices(
        pa.table({"key": table["key"], "usable": usable, "content": pa.array(content)}),
        sort_keys=[("key", "ascending"), ("usable", "ascending"), ("content", "ascending")],
    )
    table, reason = table.take(order), reason[order.to_numpy()]
    key = table["key"].combine_chunks()
    repeated = np.zeros(len(key), bool)
    if len(key) > 1:
        repeated[1:] = pc.fill_null(pc.equal(key.slice(1), key.slice(0, len(key) - 1)), False).to_numpy(
            zero_copy_only=False
        )
    reason[repeated] = "duplicate_key"
    reason[pc.is_null(key).to_numpy(zero_copy_only=False)] = "null_key"
    kept = pa.array(np.array([text is None for text in reason], bool))
    contents = [json.dumps(row, default=str, ensure_ascii=False) for row in table.filter(pc.invert(kept)).to_pylist()]
    reasons = pa.array([text for text in reason if text is not None], pa.string())
    rejected = pa.table({"reason": reasons, "row": pa.array(contents, pa.string())})
    return CheckedItems(table.filter(kept).combine_chunks(), rejected, table.num_rows)


@dataclass(frozen=True)
class Catalogue:
    """Items in `item_index` order: table columns key, title, count and the fragments of every feature.

    index_of_number: [items]; -1 behind the numbers, where items are gone and have none.
    """

    table: pa.Table
    fields: tuple[Field, ...]
    index_of_number: Ints
    reference_type = "<i4"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def counts(self) -> Ints:
        """[items] training clicks."""
        counts: Ints = self.table["count"].to_numpy()
        return counts

    @property
    def gone(self) -> npt.NDArray[np.bool_] | None:
        """[items] those that keep their index but are no longer in the item table; None where there are none."""
        if "gone" not in self.table.column_names:
            return None
        return np.asarray(self.table["gone"].to_numpy(), bool)

    @functools.cached_property
    def by_popularity(self) -> Ints | None:
        """[items] item indices by falling training clicks, ties by index; None where that is their order."""
        counts = self.counts
        return np.argsort(-counts, kind="stable") if (np.diff(counts) > 0).any() else None

    @property
    def ranks(self) -> Ints | None:
        """[items] the place of each in `by_popularity`; None where it is the index."""
        order = self.by_popularity
        if order is None:
            return None
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        return ranks

    @property
    def frequencies(self) -> Ints | Floats:
        """[items] what proposals count: the training clicks, or `frequencies` of them as they are configured."""
        if "frequency" not in self.table.column_names:
            return self.counts
        frequencies: Floats = self.table["frequency"].to_numpy()
        return frequencies

    def with_frequencies(self, by_number: Floats) -> "Catalogue":
        """The catalogue with frequencies [items, by number] that proposals count in place of training clicks."""
        values, numbered = np.zeros(len(self)), self.index_of_number >= 0
        values[self.index_of_number[numbered]] = by_number[numbered]
        return Catalogue(self.table.append_column("frequency", pa.array(values)), self.fields, self.index_of_number)

    def items_of(self, clicks: pa.Table) -> Ints:
        """[n] the items of clicks that carry numbers."""
        items: Ints = self.index_of_number[clicks["number"].to_numpy()]
        return items

    def indices(self, items: Ints) -> Ints:
        """The item_index of each: all items are at hand, so it is the same."""
        return items

    def references(self, drawn: Ints) -> Ints:
        """What was drawn, as items."""
        return drawn

    def refusing(self, exclusion: Exclusion) -> Exclusion:
        """What may not be drawn."""
        return exclusion

    def fragments(self, field: Field) -> Fragments:
        """[items] fragments of one feature."""
        lengths = f"{field.name}.lengths"
        return Fragments(
            self.table[field.name].chunk(0),
            self.table[lengths].chunk(0) if lengths in self.table.column_names else None,
        )

    @functools.cached_property
    def tables(self) -> dict[str, Table]:
        """What records take items from: a table of the values of each feature, of lengths, and of `index` itself."""
        fragments = {"index": wire.int_fragments(np.arange(len(self)))}
        for field in self.fields:
            found = self.fragments(field)
            fragments[field.name] = found.values
            if found.lengths is not None:
                fragments[f"{field.name}.lengths"] = found.lengths
        return {name: Table(found) for name, found in fragments.items()}

    @functools.cached_property
    def proposal(self) -> CatalogueProposal:
        """The proposal that was stored with the catalogue."""
        guide = self.table["guide"].chunk(0).flatten().to_numpy()
        return CatalogueProposal(InversionTable(self.table["mass"].to_numpy(), self.table["end"].to_numpy(), guide))

    @functools.cached_property
    def pools(self) -> UniquePools | None:
        """What pools without replacement are drawn from; None for all other draws."""
        line = self._line("pool")
        return None if line is None or self.inclusion is None else UniquePools(self.inclusion, line)

    @functools.cached_property
    def clicks(self) -> UniqueClicks | None:
        """What a click's different negatives are drawn from; None for all other draws."""
        line = self._line("click")
        if line is None or self.inclusion is None:
            return None
        return UniqueClicks(self.proposal.mass, self.proposal.one, line, round(self.inclusion.sum() / ONE))

    def _line(self, name: str) -> Line | None:
        if f"{name}_order" not in self.table.column_names:
            return None
        return Line(self.table[f"{name}_order"].to_numpy(), self.table[f"{name}_end"].to_numpy())

    @functools.cached_property
    def inclusion(self) -> Ints | None:
        """[items] how often each stands in a pool of different items, or with a click that excludes none, times ONE;
        None where draws are with replacement.
        """
        return self.table["inclusion"].to_numpy() if "inclusion" in self.table.column_names else None

    @property
    def limits(self) -> str:
        """A hash of when each item can be had; of nothing where no limit is configured."""
        names = sorted(available.LIMITS.keys() & set(self.table.column_names))
        return hash_of_limits(self.table[name].to_numpy() for name in names)

    @functools.cached_property
    def availability(self) -> Availability | None:
        """When each item can be had; None where no limit is configured."""
        if not available.LIMITS.keys() <= set(self.table.column_names):
            return None
        return Availability.between(*(self.table[name].to_numpy() for name in available.LIMITS))

    @property
    def drawn(self) -> Floats:
        """[items] share of each item of all candidates, before exclusion."""
        if self.inclusion is None:
            return self.proposal.table.probabilities
        shares: Floats = self.inclusion / int(self.inclusion.sum())
        return shares

    @property
    def tallied(self) -> Floats:
        """[items] what the draws that are counted follow, before exclusion.

        A pool without replacement as it is; one that TensorFlow's way of refusing draws has made, all its draws.
        """
        return self.drawn if self.pools is not None else self.proposal.table.probabilities

    @functools.cached_property
    def cells(self) -> Cells:
        """What draws are counted by."""
        return Cells.of(self.tallied, self.by_popularity)

    @property
    def drawn_mass(self) -> tuple[Ints, int]:
        """([items] whole numbers in proportion to `drawn`, what they sum to)."""
        if self.inclusion is None:
            return self.proposal.mass, self.proposal.one
        return self.inclusion, int(self.inclusion.sum())

    def log_expected(self, items: Ints, count: int) -> Floats:
        """log of the expected count of items among `count` draws, or in a pool of so many; with different negatives a
        click, what its minimum with 0 is that of.
        """
        unique = self.pools or self.clicks
        return self.proposal.log_expected(items, count) if unique is None else unique.log_expected(items)

    @functools.cached_property
    def groups(self) -> list[Groups]:
        """What each same_attribute strategy of the mixture draws from, in its order."""
        numbers = range(sum(name.startswith("group.") for name in self.table.column_names))
        return [
            Groups(*(self.table[f"{name}.{n}"].to_numpy().astype(np.int64) for name in ("group", "group_mass")))
            for n in numbers
        ]

    def with_groups(self, found: Sequence[Groups]) -> "Catalogue":
        """The catalogue with the groups of same_attribute strategies beside its items; 12 bytes an item each."""
        table = self.table
        for number, one in enumerate(found):
            table = table.append_column(f"group.{number}", pa.array(one.label, pa.int32()))
            table = table.append_column(f"group_mass.{number}", pa.array(one.mass))
        return Catalogue(table, self.fields, self.index_of_number)

    def with_proposal(
        self, proposal: CatalogueProposal, unique: UniquePools | UniqueClicks | Floats | None = None
    ) -> "Catalogue":
        """The catalogue with a proposal's table beside its items.

        unique: what draws without replacement, or [items] how often each item will stand in a pool.
        """
        columns: dict[str, Any] = {"mass": proposal.table.mass, "end": proposal.table.end}
        columns["guide"] = pa.FixedSizeListArray.from_arrays(pa.array(proposal.table.guide), CELLS)
        if isinstance(unique, UniquePools):
            columns |= {"inclusion": unique.inclusion, "pool_order": unique.line.order, "pool_end": unique.line.end}
        elif isinstance(unique, UniqueClicks):
            inclusion = np.exp(np.minimum(unique.log_expected(np.arange(len(self))), 0))
            columns |= {"inclusion": _of_one(inclusion), "click_order": unique.line.order, "click_end": unique.line.end}
        elif unique is not None:
            columns["inclusion"] = _of_one(unique)
        table = self.table
        for name, values in columns.items():
            table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
        return Catalogue(table, self.fields, self.index_of_number)

    def store(self, path: Path) -> None:
        """Writes the file that executors map."""
        table = self.table.append_column("index_of_number", pa.array(self.index_of_number))
        mapped_files.store(path, table)


def _of_one(inclusion: Floats) -> Ints:
    whole: Ints = np.round(inclusion * ONE).astype(np.int64)
    return whole


def build(
    items: CheckedItems, counts_by_number: Ints, features: "Features", before: "Inherited | None" = None
) -> tuple[Catalogue, dict[str, list[str]]]:
    """(catalogue, vocabularies by feature) of the checked items and their training clicks [items, by number].

    before: what is inherited: items keep their indices, those that are gone too; new ones follow by falling clicks.
    """
    order = np.lexsort((np.arange(len(counts_by_number)), -counts_by_number))
    keys = encoding.texts(items.table["key"].combine_chunks())
    known = np.full(len(order), -1) if before is None else before.indices(keys)
    order = np.concatenate([np.argsort(known, kind="stable")[(known < 0).sum() :], order[known[order] < 0]])
    table, counts = items.table.take(pa.array(order)).combine_chunks(), counts_by_number[order]
    columns = {
        "key": keys.take(pa.array(order)),
        "title": table["title"].combine_chunks().cast(pa.large_string()),
        "count": pa.array(counts, pa.int64()),
        **{name: table[name].combine_chunks() for name in available.LIMITS if name in table.column_names},
    }
    fields, vocabularies = [], {}
    for name, spec in features.item.items():
        field, values, fragments = encoding.learned(name, spec, table[name].combine_chunks(), counts, before)
        if values is not None:
            vocabularies[name] = values
        columns[name] = fragments.values
        if fragments.lengths is not None:
            columns[f"{name}.lengths"] = fragments.lengths
        fields.append(field)
    found, own = pa.table(columns), known[order][known[order] >= 0]
    if before is not None and len(own) < len(before):  # rows of what is gone among them, each at its index
        gone = np.setdiff1d(np.arange(len(before)), own)
        rows = before.rows(gone, tuple(fields), found.schema)
        found = found.append_column("gone", pa.array(np.zeros(len(order), bool)))
        indices = np.concatenate([own, np.arange(len(before), len(before) + len(order) - len(own)), gone])
        found = pa.concat_tables([found, rows]).combine_chunks().take(pa.array(np.argsort(indices)))
    else:
        indices = np.arange(len(order))
    index_of_number = np.full(len(indices), -1)
    index_of_number[order] = indices[: len(order)]
    return Catalogue(found.combine_chunks(), tuple(fields), index_of_number), vocabularies


@functools.lru_cache(maxsize=1)
def mapped(path: str, fields: tuple[Field, ...]) -> Catalogue:
    """The stored catalogue, memory-mapped."""
    table = mapped_files.mapped(path)
    numbers = table["index_of_number"].to_numpy()
    return Catalogue(table.drop_columns(["index_of_number"]), fields, numbers)
