"""Encodes columns of entities (items, users) as features: whole Arrow columns at a time, the same code for both sides.

A feature is resolved first (its vocabulary or boundaries, from the training window) and then encoded as fragments, one
an entity: what that entity adds to any record that mentions it. Values of a vocabulary are text, so that 7 and "7" are
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import wire
from schemas.errors import DataError
from schemas.record import Field

if TYPE_CHECKING:  # a task needs no pydantic
    from schemas.features import FeatureSpec, Vocabulary

Ints = npt.NDArray[np.int64]

OUT_OF_VOCABULARY = "[OOV]"
_WHOLE = r"\A(0|-?[1-9][0-9]*)\z"


@dataclass(frozen=True)
class Fragments:
    """Encoded values of n entities: values [n] fragments; lengths [n] fragments where the feature is a list."""

    values: pa.LargeBinaryArray
    lengths: pa.LargeBinaryArray | None = None

    def take(self, rows: Ints) -> "Fragments":
        """The fragments of these entities, in this order."""
        index = pa.array(rows)
        return Fragments(self.values.take(index), None if self.lengths is None else self.lengths.take(index))


def check_type(name: str, spec: "FeatureSpec", column: pa.DataType, where: str) -> None:
    """Raises a DataError where a column's type cannot be encoded as the spec asks."""
    is_list = pa.types.is_list(column) or pa.types.is_large_list(column) or pa.types.is_fixed_size_list(column)
    value = column.value_type if is_list else column
    number = pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_decimal(value)
    plain_text = pa.types.is_string(value) or pa.types.is_large_string(value)
    if spec.shape == "scalar" and is_list:
        advice = "shape: list" if spec.encode == "vocabulary" else "shape: [n]"
        raise DataError(f"{where}: feature {name!r} expects one value a row, the column is {column}; give it {advice}")
    if spec.shape != "scalar" and not is_list:
        raise DataError(f"{where}: feature {name!r} expects lists, the column is {column}; leave its shape out")
    if spec.encode == "vocabulary":
        if not (number or plain_text or pa.types.is_boolean(value) or pa.types.is_date(value)):
            raise DataError(
                f"{where}: feature {name!r} expects text or numbers for its vocabulary, the column is {column}"
            )
    elif not (number or pa.types.is_boolean(value)):
        raise DataError(f"{where}: feature {name!r} expects numbers (encode: {spec.encode}), the column is {column}")


def texts(column: pa.Array) -> pa.Array:
    """A scalar column as text, nulls kept; whole floats read like integers, so that 3.0 is "3"."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64())
        whole = pc.and_(pc.is_finite(numbers), pc.equal(pc.floor(numbers), numbers))
        whole = pc.and_(whole, pc.less(pc.abs(numbers), 2.0**63))
        as_integers = pc.if_else(pc.fill_null(whole, False), numbers, None).cast(pa.int64()).cast(pa.large_string())
        return pc.coalesce(as_integers, pc.if_else(pc.is_nan(numbers), None, numbers).cast(pa.large_string()))
    return column.cast(pa.large_string())


def list_array(
    values: npt.ArrayLike | pa.Array, lengths: Ints, missing: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Lists of so many `lengths` of the values each, as Spark's array; null where one is `missing`."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    flat = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.ListArray.from_arrays(offsets, flat, mask=None if missing is None else pa.array(missing))


def flat_lists(column: pa.Array) -> tuple[pa.Array, Ints]:
    """(values, owner row of each) of a list column; null entries are left out."""
    lists = column.cast(pa.large_list(column.type.value_type))
    values = lists.flatten()
    owners = pc.list_parent_indices(lists)
    kept = pc.is_valid(values)
    return values.filter(kept), owners.filter(kept).to_numpy().astype(np.int64)


def value_weights(shape: str, column: pa.Array, weights: Ints) -> pa.Table:
    """value (text), weight: the training clicks behind each value of one feature; values without any are left out."""
    if shape == "list":
        values, owners = flat_lists(column)
        weights = weights[owners]
    else:
        values = column
    table = pa.table({"value": texts(values), "weight": pa.array(weights, pa.int64())})
    table = table.filter(pc.and_(pc.is_valid(table["value"]), pc.greater(table["weight"], 0)))
    return table.group_by("value").aggregate([("weight", "sum")]).rename_columns(["value", "weight"])


def vocabulary(spec: "Vocabulary", frequencies: pa.Table, before: Sequence[str] = ()) -> list[str]:
    """Values by index: the placeholder, then by falling weight; ties by value, as numbers where all are numbers.

    before: the vocabulary to go on from, whose values keep their indices; new ones follow, as far as `max_size` allows.
    """
    start = list(before) or [OUT_OF_VOCABULARY]
    value = frequencies["value"].cast(pa.large_string())
    whole = pc.all(pc.match_substring_regex(value, _WHOLE), min_count=0).as_py()
    # Numbers of any size: the longer text is the further from 0, and those of one length and sign compare as texts.
    minus = pc.and_(pc.starts_with(value, "-"), whole)
    length = pc.binary_length(value).cast(pa.int64())
    table = pa.table({
        "value": value,
        "weight": frequencies["weight"],
        "length": pc.if_else(minus, pc.negate(length), length) if whole else pa.repeat(0, len(value)),
        "above": pc.if_else(minus, "", value),
        "below": pc.if_else(minus, value, ""),
    })  # fmt: skip
    known = pc.is_in(value, value_set=pa.array(start[1:], value.type))
    table = table.filter(pc.and_(pc.invert(known), pc.greater_equal(table["weight"], spec.min_count)))
    order = [("weight", "descending"), ("length", "ascending"), ("above", "ascending"), ("below", "descending")]
    room = None if spec.max_size is None else max(0, 1 + spec.max_size - len(start))
    return [*start, *table.sort_by(order)["value"].slice(0, room).to_pylist()]


def numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """A numeric column as float64, nulls as NaN; integers beyond 2^53 as the nearest there is."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def quantile_boundaries(values: npt.NDArray[np.float64], quantiles: int) -> tuple[float, ...]:
    """Boundaries that part the finite values in so many intervals alike; fewer where values repeat."""
    distinct, times = np.unique(values[np.isfinite(values)], return_counts=True)
    return quantiles_of(distinct, times, quantiles)


def quantiles_of(distinct: npt.NDArray[np.float64], times: Ints, quantiles: int) -> tuple[float, ...]:
    """The same of rising numbers, each of which comes so many `times`; interpolated as numpy.quantile does."""
    if not len(distinct):
        return ()
    behind = np.cumsum(times)
    places = places_of_quantiles(int(behind[-1]), quantiles)
    return places.between(distinct[np.searchsorted(behind, places.needed, side="right")])


@dataclass(frozen=True)
class Places:
    """at: [quantiles - 1] where boundaries lie among sorted numbers. needed: the places of numbers around them."""

    at: npt.NDArray[np.float64]
    needed: Ints

    def between(self, numbers: npt.NDArray[np.float64]) -> tuple[float, ...]:
        """The boundaries, each once, given the numbers at the places `needed`."""
        below = np.floor(self.at)
        low, high = (numbers[np.searchsorted(self.needed, place)] for place in (below, np.ceil(self.at)))
        part, step = self.at - below, high - low
        found = np.where(part < 0.5, low + step * part, high - step * (1 - part))
        return tuple(float(value) for value in np.unique(found))


def places_of_quantiles(count: int, quantiles: int) -> Places:
    """Where the boundaries of so many intervals alike lie among `count` sorted numbers."""
    at = (count - 1) * (np.arange(1, quantiles) / quantiles)
    return Places(at, np.unique(np.concatenate([np.floor(at), np.ceil(at)])).astype(np.int64))


class Learned(Protocol):
    """What features have learned on an earlier day, by feature: vocabularies, and boundaries of buckets."""

    @property
    def vocabularies(self) -> Mapping[str, Sequence[str]]: ...

    @property
    def boundaries(self) -> Mapping[str, Sequence[float]]: ...


def resolved(name: str, spec: "FeatureSpec", size: int, boundaries: Sequence[float] | None) -> Field:
    """The field that a spec becomes, once its vocabulary's size or its boundaries are known."""
    column = spec.column or name
    if spec.encode == "vocabulary":
        return Field(name, "vocabulary", column, spec.shape, size)
    if spec.encode == "buckets":
        return Field(name, "buckets", column, "scalar", len(boundaries or ()) + 2, tuple(boundaries or ()))
    return Field(name, "none", column, "scalar" if spec.shape == "scalar" else spec.shape[0], 0, None, spec.default)


def learned(
    name: str, spec: "FeatureSpec", column: pa.Array, weights: Ints, before: "Learned | None" = None
) -> tuple[Field, list[str] | None, Fragments]:
    """(field, vocabulary, fragments) of a column whose rows are all there is to learn from.

    Args:
      weights: [rows] training clicks behind each; rows without any are encoded, but teach nothing.
      before: what is inherited, and stays.
    """
    values, boundaries = None, spec.boundaries if spec.encode == "buckets" else None
    if spec.encode == "vocabulary":
        known = () if before is None else before.vocabularies[name]
        values = vocabulary(spec, value_weights(spec.shape, column, weights), known)
    elif spec.encode == "buckets" and spec.quantiles is not None:
        if before is not None:
            boundaries = list(before.boundaries[name])
        else:
            boundaries = list(quantile_boundaries(numbers(column)[weights > 0], spec.quantiles))
    field = resolved(name, spec, len(values or ()), boundaries)
    by_index = None if values is None else pa.array(values, pa.large_string())
    return field, values, encoded(field, by_index, column)


def encoded(field: Field, values_by_index: pa.Array | None, column: pa.Array) -> Fragments:
    """The fragments of a column's rows.

    Args:
      values_by_index: the vocabulary as text, index 0 the placeholder; None for other encodings.
    """
    if field.encode == "vocabulary":
        if field.shape == "list":
            values, owners = flat_lists(column)
            return list_fragments(indices(values_by_index, values), owners, len(column))
        return Fragments(wire.int_fragments(indices(values_by_index, column)))
    if field.encode == "buckets":
        numeric = numbers(column)
        index = np.searchsorted(np.asarray(field.boundaries), numeric, side="right") + 1
        return Fragments(wire.int_fragments(np.where(np.isnan(numeric), 0, index)))
    return Fragments(wire.float_fragments(dense(field, column), field.width or 1))


def list_fragments(index: Ints, owners: Ints, rows: int) -> Fragments:
    """The fragments of lists of indices, one list after the other; owners: the row of each, rising."""
    lengths = np.bincount(owners, minlength=rows).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Fragments(wire.regrouped(wire.int_fragments(index), starts), wire.int_fragments(lengths))


def indices(values_by_index: pa.Array, column: pa.Array) -> Ints:
    """Vocabulary index of each value; 0 for nulls and values that the vocabulary lacks."""
    known = values_by_index.slice(1)
    found = pc.index_in(texts(column), value_set=known.cast(pa.large_string()), skip_nulls=True)
    return np.asarray(pc.add(pc.fill_null(found, -1), 1).to_numpy(zero_copy_only=False), np.int64)


def dense(field: Field, column: pa.Array) -> npt.NDArray[np.float32]:
    """[rows, width] float32, nulls as the field's default."""
    width = field.width or 1
    if field.shape == "scalar":
        numeric = numbers(column)
        return np.where(np.isnan(numeric), field.default, numeric).astype(np.float32)[:, None]
    out = np.full((len(column), width), field.default, np.float32)
    present = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    if len(present):
        flat = numbers(column.drop_null().cast(pa.large_list(column.type.value_type)).flatten())
        out[present] = np.where(np.isnan(flat), field.default, flat).reshape(len(present), width)
    return out


def faults(name: str, spec: "FeatureSpec", column: pa.Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """(reason, rows) of values that cannot be used: numbers that are not finite, vectors of another length."""
    if spec.encode == "vocabulary":
        return []
    kept = pa.float32() if spec.encode == "none" else pa.float64()  # 1e300 is finite until it is stored
    if spec.shape == "scalar":
        bad = pc.fill_null(pc.invert(pc.is_finite(column.cast(kept, safe=False))), False)
        return [(f"non_finite:{name}", bad.to_numpy(zero_copy_only=False))]
    lists = column.cast(pa.large_list(column.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(lists), spec.shape[0]).to_numpy(zero_copy_only=False)
    values = lists.flatten().cast(kept, safe=False)
    wrong = pc.fill_null(pc.invert(pc.is_finite(values)), False).to_numpy(zero_copy_only=False)
    not_finite = np.zeros(len(column), bool)
    not_finite[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[wrong]] = True
    return [(f"wrong_length:{name}", lengths != spec.shape[0]), (f"non_finite:{name}", not_finite)]
