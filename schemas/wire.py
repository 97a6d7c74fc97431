"""Protocol-buffer wire pieces of `tf.train.Example`, whole columns at a time.

On the wire a packed repeated field is the concatenation of its values' encodings, so each value is encoded once, as a
fragment, and a record's payload is a run of fragments: `take` of a table copies them in C++, and the payload of every
record is then a change of offsets, not a copy. tests/benchmarks/encoder.py holds it against per-row `tf.train.Example`.

    Example  = 0A len Features ;  Features = (0A len Entry)* ;  Entry = 0A len key 12 len Feature
    Feature  = 0A len BytesList | 12 len FloatList | 1A len Int64List ;  packed lists are 0A len payload
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

_SMALL = 1 << 14
FEATURE_TAG = {"bytes": b"\x0a", "float32": b"\x12", "int64": b"\x1a"}


@dataclass(frozen=True)
class Pieces:
    """n texts of bytes that are not put together yet: of each, `parts` hold one piece after the other.

    sizes: [n] bytes of each text.
    """

    parts: Sequence[pa.LargeBinaryArray]
    sizes: Ints

    @classmethod
    def of(cls, texts: pa.LargeBinaryArray) -> "Pieces":
        """Texts of one piece each."""
        return cls([texts], lengths_of(texts))

    def joined(self) -> pa.LargeBinaryArray:
        """The texts, copied once."""
        return pc.binary_join_element_wise(*self.parts, pa.scalar(b"", pa.large_binary()))


def varint(value: int) -> bytes:
    """One unsigned number, seven bits a byte, low bits first."""
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def binary_array(data: Any, offsets: Ints) -> pa.LargeBinaryArray:
    """Fragments over one buffer; fragment i is data[offsets[i]:offsets[i + 1]]."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def buffers_of(array: pa.LargeBinaryArray) -> tuple[Ints, Any]:
    """(offsets [n + 1], data buffer) of an array, its slice taken into account."""
    _, offsets, data = array.buffers()
    numbers = np.frombuffer(offsets, np.int64, len(array) + 1, 8 * array.offset)
    return numbers, data if data is not None else pa.py_buffer(b"")


def lengths_of(array: pa.LargeBinaryArray) -> Ints:
    """Bytes of each fragment."""
    return np.diff(buffers_of(array)[0])


def int_fragments(values: npt.ArrayLike) -> pa.LargeBinaryArray:
    """One varint fragment a value; negative numbers take ten bytes, as two's complement."""
    numbers = np.ascontiguousarray(values, np.int64).reshape(-1).view(np.uint64)
    most = int(numbers.max(initial=0))
    if most < _SMALL <= 4 * numbers.size:
        return _small_ints().take(pa.array(numbers))
    width = max(1, -(-most.bit_length() // 7))
    groups = numbers[:, None] >> np.arange(0, 7 * width, 7, dtype=np.uint64)
    sizes = np.ones(numbers.size, np.int64)
    for place in range(1, width):
        sizes += groups[:, place] != 0
    matrix = groups.astype(np.uint8) & np.uint8(0x7F)
    matrix |= (np.arange(width) < (sizes - 1)[:, None]).view(np.uint8) << np.uint8(7)
    data = matrix[np.arange(width) < sizes[:, None]]
    return binary_array(data, _offsets(sizes))


def numbers_of(fragments: pa.LargeBinaryArray) -> Ints:
    """The numbers of `int_fragments`: [n] of n fragments that hold one each."""
    offsets, data = buffers_of(fragments)
    sizes, octets = np.diff(offsets), np.frombuffer(data, np.uint8)
    numbers = np.zeros(len(sizes), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        reached = np.flatnonzero(sizes > place)
        part = (octets[offsets[reached] + place] & 0x7F).astype(np.uint64)
        numbers[reached] |= part << np.uint64(7 * place)
    return numbers.view(np.int64)


def float_fragments(values: npt.ArrayLike, width: int = 1) -> pa.LargeBinaryArray:
    """One fragment of `width` float32 an entity."""
    numbers = np.ascontiguousarray(values, "<f4").reshape(-1)
    return binary_array(numbers, np.arange(0, numbers.nbytes + 1, 4 * width, dtype=np.int64))


def bytes_fragments(values: Sequence[bytes] | pa.Array) -> pa.LargeBinaryArray:
    """One fragment a value of a BytesList: its own tag and length, then the bytes, of texts in UTF-8; none is null."""
    octets = (values if isinstance(values, pa.Array) else pa.array(values, pa.large_binary())).cast(pa.large_binary())
    tag, nothing = (pa.scalar(text, pa.large_binary()) for text in (b"\x0a", b""))
    return pc.binary_join_element_wise(tag, int_fragments(lengths_of(octets)), octets, nothing)


def regrouped(fragments: pa.LargeBinaryArray, starts: Ints) -> pa.LargeBinaryArray:
    """Runs of fragments as one fragment each: group i is fragments[starts[i]:starts[i + 1]]. Nothing is copied."""
    offsets, data = buffers_of(fragments)
    return binary_array(data, offsets[starts])


def entry_headers(key: str, dtype: str, payload_bytes: Ints) -> pa.LargeBinaryArray:
    """What precedes a payload in its record, for payloads of the given sizes."""
    distinct, place = distinct_sizes(payload_bytes)
    name = key.encode()
    return _each([_entry_header(name, dtype, size) for size in distinct.tolist()], place)


def example_headers(features_bytes: Ints) -> pa.LargeBinaryArray:
    """The tag and length that open each Example."""
    distinct, place = distinct_sizes(features_bytes)
    return _each([_example_header(size) for size in distinct.tolist()], place)


def distinct_sizes(sizes: Ints) -> tuple[Ints, Ints]:
    """(each size once, rising; which of them each is); by a table where it is small, as sorting costs much more."""
    most = int(sizes.max(initial=0))
    if most > 16 * len(sizes):
        return np.unique(sizes, return_inverse=True)
    place = np.zeros(most + 1, np.int64)
    place[sizes] = 1
    distinct = np.flatnonzero(place)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[sizes]


def _each(headers: list[bytes], place: Ints) -> pa.LargeBinaryArray:
    if len(headers) == 1:
        return pa.repeat(pa.scalar(headers[0], pa.large_binary()), len(place))
    return pa.array(headers, pa.large_binary()).take(pa.array(place))


@functools.lru_cache(maxsize=1 << 14)
def _entry_header(key: bytes, dtype: str, size: int) -> bytes:
    packed = b"\x0a" + varint(size) if size and dtype != "bytes" else b""
    feature = FEATURE_TAG[dtype] + varint(len(packed) + size) + packed
    name = b"\x0a" + varint(len(key)) + key
    value = b"\x12" + varint(len(feature) + size) + feature
    return b"\x0a" + varint(len(name) + len(value) + size) + name + value


@functools.lru_cache(maxsize=1 << 14)
def _example_header(size: int) -> bytes:
    return b"\x0a" + varint(size)


@functools.cache
def _small_ints() -> pa.LargeBinaryArray:
    """The fragments of all numbers below _SMALL: to take them is faster than to make them."""
    pieces = [varint(number) for number in range(_SMALL)]
    return binary_array(b"".join(pieces), _offsets(np.array([len(piece) for piece in pieces])))


def _offsets(sizes: Ints) -> Ints:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
