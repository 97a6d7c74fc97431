"""TFRecord framing: length, masked CRC-32C of the length, data, masked CRC-32C of the data.

    uint64 length | uint32 masked_crc(length) | byte data[length] | uint32 masked_crc(data)      (little endian)

The format of TensorFlow's `tf.io.TFRecordWriter` and Beam's `tfrecordio`, without either: importing TensorFlow costs a
Spark worker eight seconds. Reading checks both CRCs and bounds the length, so hostile bytes cost no memory.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import wire
from schemas.errors import CorruptDataset

FRAME_BYTES = 16
MAX_RECORD_BYTES = 1 << 30
_MASK_DELTA = 0xA282EAD8
_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


def masked_crc32c(data: bytes) -> int:
    """CRC-32C rotated right by 15 bits plus a constant, as TensorFlow's crc32c::Mask."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


@functools.lru_cache(maxsize=1 << 14)
def _header(length: int) -> bytes:
    packed = _LENGTH.pack(length)
    return packed + _CRC.pack(masked_crc32c(packed))


def frame(record: bytes) -> bytes:
    """One record with its header and footer."""
    return b"".join((_header(len(record)), record, _CRC.pack(masked_crc32c(record))))


def frames(records: Iterable[bytes]) -> bytes:
    """Several framed records, back to back."""
    return b"".join(frame(record) for record in records)


def framed(records: pa.LargeBinaryArray, slices: Sequence[Any]) -> pa.Buffer:
    """The bytes of a file that holds these records; `slices` are the same, one by one.

    Copies every record once: it costs less than to frame each in Python.
    """
    lengths = wire.lengths_of(records)
    distinct, place = wire.distinct_sizes(lengths)
    headers = pa.array([_header(length) for length in distinct.tolist()], pa.large_binary())
    crcs = np.fromiter(map(google_crc32c.value, slices), np.uint32, len(slices))
    masked = ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK_DELTA)
    footers = wire.binary_array(masked.astype("<u4"), np.arange(0, masked.nbytes + 1, 4))
    empty = pa.scalar(b"", pa.large_binary())
    joined = pc.binary_join_element_wise(headers.take(pa.array(place)), records, footers, empty)
    offsets, data = wire.buffers_of(joined)
    return data.slice(
        int(offsets[0]), int(offsets[-1] - offsets[0])
    )  # Arrow's buffers may be longer than what is in them


def read_frames(stream: IO[bytes], name: str, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    """Records of an open (uncompressed) stream, in order.

    Raises:
      CorruptDataset: a truncated frame, a wrong CRC or a length above `max_record_bytes`; it says which record of
      `name`.
    """
    number = 0
    while header := stream.read(_HEADER.size):
        where = f"{name}, record {number}"
        if len(header) < _HEADER.size:
            raise CorruptDataset(f"{where}: the shard ends inside a frame header")
        length, length_crc = _HEADER.unpack(header)
        if masked_crc32c(header[: _LENGTH.size]) != length_crc:
            raise CorruptDataset(f"{where}: the CRC of the length does not match")
        if length > max_record_bytes:
            raise CorruptDataset(f"{where}: a length of {length} bytes is above the limit of {max_record_bytes}")
        record = stream.read(length)
        footer = stream.read(_CRC.size)
        if len(record) < length or len(footer) < _CRC.size:
            raise CorruptDataset(f"{where}: the shard ends inside a record")
        if masked_crc32c(record) != _CRC.unpack(footer)[0]:
            raise CorruptDataset(f"{where}: the CRC of the data does not match")
        yield record
        number += 1
