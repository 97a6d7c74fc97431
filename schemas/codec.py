"""Encode, decode and TensorFlow's parse spec of a record, side by side, all fed by the same columns.

`encode` writes many records at once from their payloads; `decode` reads one without TensorFlow, for eyes and tests;
`parse_spec` is for `tf.io.parse_example`. A record is an ordinary `tf.train.Example`: none of this is needed to read
it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import wire
from schemas.errors import CorruptDataset
from schemas.record import Column

Decoded = npt.NDArray[np.int64] | npt.NDArray[np.float32] | list[bytes]

_VARINT, _BYTES, _FIXED32 = 0, 2, 5  # wire types of protocol buffers
_LONGEST_VARINT = 10  # bytes


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

    The values are those that protobuf gives. What it skips as unknown has no place in a record and is refused here.

    Raises:
      CorruptDataset: bytes that are no Example; time and memory are bounded by the record's own size.
    """
    values: dict[str, Decoded] = {}
    for number, features in _messages(memoryview(record)):
        _expected(number, 1, "the Example")
        for place, entry in _messages(features):
            _expected(place, 1, "its features")
            pairs = list(_messages(entry))
            parts = dict(pairs)
            if parts.keys() != {1, 2} or len(pairs) != 2:
                raise CorruptDataset("a feature of the Example has not one key and one value")
            values[_text(parts[1])] = _feature(parts[2])
    return values


def decode_one(record: bytes, key: str) -> Decoded | None:
    """Values of one key of a serialized Example, a third of the time of `decode`; None where there is no such key.

    Raises:
      CorruptDataset: as `decode`, as far as it comes.
    """
    name = key.encode()
    opening = b"\x0a" + wire.varint(len(name)) + name
    for number, features in _messages(memoryview(record)):
        _expected(number, 1, "the Example")
        for place, entry in _messages(features):
            _expected(place, 1, "its features")
            if entry[: len(opening)] == opening:
                return _feature(dict(_messages(entry)).get(2, memoryview(b"")))
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
    """The values of one feature; as for protobuf, the last kind of list holds, and lists of one kind add up."""
    kind, lists = 0, list[memoryview]()
    for number, content in _messages(data):
        if number not in _LISTS:
            raise CorruptDataset(f"field {number} has no place in a feature of the Example")
        if number != kind:
            kind, lists = number, []
        lists.append(content)
    return _LISTS[kind](lists)


def _bytes(lists: list[memoryview]) -> Decoded:
    values = []
    for content in lists:
        for number, value in _messages(content):
            _expected(number, 1, "a list of bytes")
            values.append(bytes(value))
    return values


def _floats(lists: list[memoryview]) -> Decoded:
    return np.frombuffer(b"".join(_packed(lists, _FIXED32)), "<f4").astype(np.float32)


def _ints(lists: list[memoryview]) -> Decoded:
    packed = np.frombuffer(b"".join(_packed(lists, _VARINT)), np.uint8)
    if not packed.size:
        return np.zeros(0, np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(packed < 0x80) + 1])
    if int(np.diff(offsets).max()) > _LONGEST_VARINT:
        raise CorruptDataset("a number of the Example has more than ten bytes")
    return wire.numbers_of(wire.binary_array(packed, offsets))


_LISTS: Mapping[int, Callable[[list[memoryview]], Decoded]] = {0: _ints, 1: _bytes, 2: _floats, 3: _ints}


def _packed(lists: list[memoryview], unpacked: int) -> Iterator[memoryview]:
    """The bytes of whole numbers of some lists, packed, or one by one as wire type `unpacked`."""
    for content in lists:
        for number, kind, value in _fields(content):
            _expected(number, 1, "a list of numbers")
            if kind not in (unpacked, _BYTES):
                raise CorruptDataset(f"wire type {kind} has no place in this list of the Example")
            # Each packed run has to be whole: what is left of one is no beginning of the next.
            if kind == _BYTES and len(value) and (value[-1] >= 0x80 if unpacked == _VARINT else len(value) % 4):
                raise CorruptDataset("a list of numbers of the Example ends inside a number")
            yield value


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, bytes) of a message all of whose fields have a length."""
    for number, kind, content in _fields(data):
        if kind != _BYTES:
            raise CorruptDataset(f"wire type {kind} has no place in an Example")
        yield number, content


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(field number, wire type, bytes) of each field of a message; of a number its own bytes."""
    position = 0
    while position < len(data):
        tag, begin = _varint(data, position, most=5)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise CorruptDataset(f"{number} is no number of a field")
        if kind == _BYTES:
            size, begin = _varint(data, begin, most=5)
        elif kind == _VARINT:
            size = _varint(data, begin)[1] - begin
        elif kind == _FIXED32:
            size = 4
        else:
            raise CorruptDataset(f"wire type {kind} has no place in an Example")
        position = begin + size
        if position > len(data):
            raise CorruptDataset("a field of the Example is longer than what holds it")
        yield number, kind, data[begin:position]


def _varint(data: memoryview, position: int, most: int = _LONGEST_VARINT) -> tuple[int, int]:
    """(number, where it ends)."""
    value = 0
    for place in range(most):
        if position >= len(data):
            raise CorruptDataset("the Example ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position
    raise CorruptDataset(f"a number of the Example has more than {'ten' if most > 5 else 'five'} bytes")


def _expected(number: int, known: int, where: str) -> None:
    if number != known:
        raise CorruptDataset(f"field {number} has no place in {where}")


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptDataset("a key of the Example is not UTF-8 text") from error
