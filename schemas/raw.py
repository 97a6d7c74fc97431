"""Raw values behind a dataset's indices, in the two forms they travel in: tower inputs, and columns of a table.

A dataset holds indices, the exported towers take what a client's own tables hold. An index becomes a value that maps to
it: the vocabulary's own, or a number of the bucket.

                    input of a tower (NumPy, dense)                  column (Arrow)
    vocabulary      text [n], `UNKNOWN` for what is in none          string, null for what is in none
    ... list        text [n, longest], `PADDING` behind              list of strings
    buckets         float64 [n], NaN for what is missing             double, null for what is missing
    none            float32 [n] or [n, width]                        float or a list of `width`
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.manifest import Dataset
from schemas.record import Field

PADDING = ""
UNKNOWN = "\x00unknown"  # in no vocabulary, and not the padding

FEATURES = "features"

Values = npt.NDArray[Any]


def by_index(dataset: Dataset, field: Field) -> Values:
    """A raw value for each index of a feature; texts as bytes."""
    if field.encode == "vocabulary":
        texts = [text.encode() for text in dataset.vocabulary(field.name)]
        return np.array([UNKNOWN.encode(), *texts[1:]], object)
    boundaries = field.boundaries or ()
    below = [boundaries[0] - max(1.0, abs(boundaries[0]))] if boundaries else []
    return np.array([np.nan, *below, *boundaries], np.float64)


def padded(values: Values, sizes: npt.NDArray[np.int64]) -> Values:
    """Lists behind each other, of these sizes, as [n, longest], at least one wide."""
    dense = np.full((len(sizes), max(int(sizes.max(initial=0)), 1)), PADDING.encode(), object)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    dense[rows, np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[rows]] = values
    return dense


def column(field: Field, values: Values) -> pa.Array:
    """Tower inputs [n, ...] of a feature as a column."""
    if field.encode == "vocabulary":
        if field.shape == "scalar":
            return pa.array([_text(value) for value in values], pa.string())
        lists = [[_text(value) for value in row if value not in (PADDING, PADDING.encode())] for row in values]
        return pa.array(lists, pa.list_(pa.string()))
    if field.encode == "buckets":
        return pa.array(np.asarray(values, np.float64), from_pandas=True)
    flat = pa.array(np.asarray(values, np.float32).reshape(-1))
    return flat if field.shape == "scalar" else pa.FixedSizeListArray.from_arrays(flat, int(field.shape))


def inputs(field: Field, stored: pa.Array) -> Values:
    """A column of a feature as tower inputs [n, ...]; nulls of `encode: none` are the feature's default."""
    if field.encode == "vocabulary":
        if field.shape == "scalar":
            return np.array([_bytes(text) for text in stored.to_pylist()], object)
        lists = [values or [] for values in stored.to_pylist()]
        texts = np.array([_bytes(text) for row in lists for text in row], object)
        return padded(texts, np.array([len(row) for row in lists], np.int64))
    if field.encode == "buckets":
        return np.asarray(stored.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if field.shape == "scalar":
        return np.asarray(stored.fill_null(field.default).to_numpy(zero_copy_only=False), np.float32)
    empty = [field.default] * int(field.shape)
    return np.array([row or empty for row in stored.to_pylist()], np.float32).reshape(len(stored), len(empty))


def features(fields: tuple[Field, ...], values: dict[str, Values]) -> dict[str, pa.Array]:
    """Tower inputs as one column of structs by its name, `FEATURES`; no column where there are no features."""
    if not fields:  # Parquet has no structs without a field
        return {}
    columns = [column(field, values[field.name]) for field in fields]
    return {FEATURES: pa.StructArray.from_arrays(columns, names=[field.name for field in fields])}


def column_type(field: Field) -> pa.DataType:
    """The Arrow type of a feature's column."""
    if field.encode == "vocabulary":
        return pa.string() if field.shape == "scalar" else pa.list_(pa.string())
    if field.encode == "buckets":
        return pa.float64()
    return pa.float32() if field.shape == "scalar" else pa.list_(pa.float32(), int(field.shape))


def _text(value: Any) -> str | None:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return None if text == UNKNOWN else text


def _bytes(text: str | None) -> bytes:
    return (UNKNOWN if text is None else text).encode()
