"""items/ against the table it was made of: the raw values, encoded anew by vocabulary files and boundaries.

Finds what no look at the records alone can: attributes that changed hands before the first record was written, and
negatives that could not be had at the time of their click, as items/ does not say when they could.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.auditing.clicks import Table
from pipelines.auditing.findings import Findings
from pipelines.auditing.items import Items
from schemas.errors import ConfigurationError, CorruptDataset
from schemas.manifest import PER_SECOND, Dataset
from schemas.record import Field

Ints = npt.NDArray[np.int64]

LIMITS = ("available_from", "available_to")


def compared(dataset: Dataset, items: Items, path: str, findings: Findings) -> Items:
    """The items with their limits of availability; a finding for each whose features are not those of its row.

    Args:
      path: the item table, a Parquet file.

    Raises:
      ConfigurationError: no Parquet file, or a column is missing.
    """
    given = dataset.manifest.config.get("items", {})
    key, limits = str(given.get("key", "")), [given.get(name) for name in LIMITS]
    columns = list(dict.fromkeys([key, *(field.column for field in items.fields), *filter(None, limits)]))
    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ConfigurationError(f"--items: {path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    absent = set(columns) - set(table.column_names)
    if absent:
        raise ConfigurationError(f"--items: {path} has no column {min(absent)!r}; it has {table.column_names}")
    keys = [_text(value) for value in table[key].to_pylist()]
    index: dict[str | None, int] = {text: place for place, text in enumerate(items.keys)}
    rows, seen = [], set()
    for row, text in enumerate(keys):
        if text in index and text not in seen:
            seen.add(text)
            rows.append(row)
    findings.looked("source", len(rows))
    absent_items = [text for text, gone in zip(items.keys, items.gone, strict=True) if text not in seen and not gone]
    findings.skip("source", "items that are gone from the table", int(items.gone.sum()))
    findings.add("source", (f"items/: key {text} is not in {path}" for text in absent_items[:20]), len(absent_items))
    places, own = np.array([index[keys[row]] for row in rows], np.int64), table.take(pa.array(rows, pa.int64()))
    for field in items.fields:
        told = _encoded(field, own[field.column].to_pylist(), dataset)
        values = np.concatenate([np.zeros(0, np.float32 if field.encode == "none" else np.int64), *told])
        lengths = {field.name: np.array([len(each) for each in told], np.int64)} if field.width is None else {}
        made = Table(places, places, {field.name: values}, lengths)
        wrong = np.flatnonzero(items.differing(made, field.name, places))
        findings.add("source", (
            f"items/: item.{field.name} of key {items.keys[places[i]]} (item_index {places[i]}) is not "
            f"{told[i].tolist()}, which {path} gives" for i in wrong[:20]
        ), len(wrong))  # fmt: skip
    if not any(limits):
        return items
    span = np.iinfo(np.int64)
    begin, end = np.full(len(items), span.min), np.full(len(items), span.max)
    for name, moments in zip(limits, (begin, end), strict=True):
        if name is not None:
            moments[places] = _moments(own[name], dataset.manifest.time_unit, moments[places])
    return dataclasses.replace(items, limits=(begin, end))


def _moments(column: pa.ChunkedArray, unit: str, unlimited: Ints) -> Ints:
    """[rows] limits in the unit of the clicks' times, those of timestamps rounded up; `unlimited` where there is none.

    Raises:
      ConfigurationError: a column of another type.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        numbers = column.cast(pa.timestamp("us", getattr(column.type, "tz", None))).cast(pa.int64())
        step = PER_SECOND["microseconds"] // PER_SECOND[unit]
    elif pa.types.is_integer(column.type):
        numbers, step = column.cast(pa.int64()), 1
    else:
        raise ConfigurationError(f"--items: limits of availability are whole numbers or timestamps, not {column.type}")
    told = numbers.is_valid().to_numpy()
    return np.where(told, -(-numbers.fill_null(0).to_numpy() // step), unlimited)


def _encoded(field: Field, column: list[Any], dataset: Dataset) -> list[Any]:
    """An array of encoded values for each item."""
    if field.encode == "vocabulary":
        try:
            position: dict[str | None, int] = {
                text: place for place, text in enumerate(dataset.vocabulary(field.name)) if place
            }
        except CorruptDataset:
            position = {}
        lists = [[value] for value in column] if field.width else [value or [] for value in column]
        # A list leaves out what is missing; a single value is out of vocabulary then.
        texts = [[_text(value) for value in values if field.width or value is not None] for values in lists]
        return [np.array([position.get(text, 0) for text in each], np.int64) for each in texts]
    if field.encode == "buckets":
        bounds = np.array(field.boundaries or (), np.float64)
        return [
            np.array([0 if _missing(v) else 1 + np.searchsorted(bounds, float(v), "right")], np.int64) for v in column
        ]
    if field.shape == "scalar":
        return [np.array([field.default if _missing(v) else v], np.float32) for v in column]
    filler = np.full(int(field.width or 1), field.default, np.float32)
    return [filler if v is None else np.array(v, np.float32) for v in column]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str | None:
    """A value as vocabularies write it: whole floats read like integers."""
    if _missing(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value == math.floor(value):
        return str(int(value))
    return str(value)
