"""Encode, decode and TensorFlow's parse spec of a record, side by side, all fed by the same columns.

`encode` writes many records at once from their payloads; `decode` reads one without TensorFlow, for eyes and tests;
`parse_spec` is for `tf.io.parse_example`. A record is an ordinary `tf.train.Example`: none of this is needed to read
it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import wire
from schemas.errors import CorruptDataset
from schemas.record import Column

Decoded = npt.NDArray[np.int64] | npt.NDArray[np.float32] | list[bytes]


def encode(columns: Iterable[Column], payloads: Mapping[str, pa.LargeBinaryArray]) -> wire.Pieces:
    """Serialized Examples, one for each position of the payloads, in pieces: whoever joins them may add to them first.

    Args:
      columns: keys in the order they are written.
      payloads: by key, the concatenated value fragments of each record (see `schemas.wire`).

    Raises:
      KeyError: a column without a payload, or a payload without a column: a fault of the caller.
    """
    columns = list(columns)
    unknown = payloads.keys() ^ {column.key for column in columns}
    if unknown:
        raise KeyError(f"columns and payloads differ in {sorted(unknown)}")
    pieces: list[pa.LargeBinaryArray] = []
    total: Any = 0
    for column in columns:
        payload = payloads[column.key]
        sizes = wire.lengths_of(payload)
        header = wire.entry_headers(column.key, column.dtype, sizes)
        total = total + sizes + wire.lengths_of(header)
        pieces += (header, payload)
    opening = wire.example_headers(total)
    return wire.Pieces([opening, *pieces], total + wire.lengths_of(opening))


def decode(record: bytes) -> dict[str, Decoded]:
    """Values by key of one serialized Example: int64 and float32 arrays, or lists of bytes.

    Raises:
      CorruptDataset: bytes that are no Example; the cost is bounded by the record's own size.
    """
    values: dict[str, Decoded] = {}
    for number, features in _fields(memoryview(record)):
        if number != 1:
            continue
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            if 1 not in parts or 2 not in parts:
                raise CorruptDataset("a feature of the Example lacks its key or its value")
            values[_text(parts[1])] = _feature(parts[2])
    return values


def decode_one(record: bytes, key: str) -> Decoded | None:
    """Values of one key of a serialized Example, a third of the time of `decode`; None where there is no such key.

    Raises:
      CorruptDataset: as `decode`, as far as it comes.
    """
    name = key.encode()
    opening = b"\x0a" + wire.varint(len(name)) + name
    for number, features in _fields(memoryview(record)):
        if number == 1:
            for _, entry in _fields(features):
                if not isinstance(entry, int) and entry[: len(opening)] == opening:
                    return _feature(dict(_fields(entry)).get(2, b""))
    return None


def parse_spec(columns: Iterable[Column]) -> dict[str, Any]:
    """The `features` argument of `tf.io.parse_example` for records with these columns.

    Dense columns parse to [batch, *shape]; the others to RaggedTensors whose partitions are the columns' lengths, which
    are therefore not keys of their own.
    """
    import tensorflow as tf  # here alone: an executor must not need it

    dtypes = {"int64": tf.int64, "float32": tf.float32, "bytes": tf.string}
    spec: dict[str, Any] = {}
    columns = list(columns)
    partitions_of_others = {key for column in columns for key in column.lengths}
    for column in columns:
        if column.key in partitions_of_others:
            continue
        dtype = dtypes[column.dtype]
        if column.shape is not None:
            spec[column.key] = tf.io.FixedLenFeature(column.shape, dtype)
            continue
        partitions = [tf.io.RaggedFeature.RowLengths(key) for key in column.lengths]
        if column.width > 1:
            partitions.append(tf.io.RaggedFeature.UniformRowLength(column.width))
        spec[column.key] = tf.io.RaggedFeature(dtype, column.key, partitions, row_splits_dtype=tf.int64)
    return spec


def _feature(data: memoryview) -> Decoded:
    for number, content in _fields(data):
        if number == 1:
            return [bytes(value) for _, value in _fields(content)]
        if number == 2:
            packed = b"".join(value for _, value in _fields(content, fixed32=True))
            return np.frombuffer(packed[: len(packed) // 4 * 4], "<f4").astype(np.float32)
        if number == 3:
            numbers: list[int] = []
            for _, value in _fields(content):
                numbers.extend([value] if isinstance(value, int) else _varints(value))
            return np.array(numbers, np.uint64).view(np.int64)
    return np.zeros(0, np.int64)


def _fields(data: Any, fixed32: bool = False) -> Iterable[tuple[int, Any]]:
    """(field number, content) of a message; content is a view, or an int for a varint."""
    if isinstance(data, int):
        raise CorruptDataset("a number stands where the Example needs a message")
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag & 7 == 2:
            size, position = _varint(data, position)
            if size > len(data) - position:
                raise CorruptDataset("a field of the Example is longer than what holds it")
            yield tag >> 3, data[position : position + size]
            position += size
        elif tag & 7 == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
        elif tag & 7 == 5 and fixed32:
            yield tag >> 3, data[position : position + 4]
            position += 4
        else:
            raise CorruptDataset(f"wire type {tag & 7} has no place in an Example")


def _varints(data: memoryview) -> list[int]:
    numbers: list[int] = []
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        numbers.append(value)
    return numbers


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise CorruptDataset("the Example ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise CorruptDataset("a number of the Example has more than ten bytes")


def _text(data: Any) -> str:
    try:
        return bytes(data).decode("utf-8")
    except (UnicodeDecodeError, TypeError) as error:
        raise CorruptDataset("a key of the Example is not UTF-8 text") from error
