"""TFRecord framing: length, masked CRC-32C of the length, data, masked CRC-32C of the data.

    uint64 length | uint32 masked_crc(length) | byte data[length] | uint32 masked_crc(data)      (little endian)

The format of TensorFlow's `tf.io.TFRecordWriter` and Beam's `tfrecordio`, without either: importing TensorFlow costs a
Spark worker eight seconds. Reading checks both CRCs and bounds the length, so hostile bytes cost no memory.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import IO

import google_crc32c

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


def frame(record: bytes) -> bytes:
    """One record with its header and footer."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _CRC.pack(masked_crc32c(length)), record, _CRC.pack(masked_crc32c(record))))


def frames(records: Iterable[bytes]) -> bytes:
    """Several framed records, back to back."""
    return b"".join(frame(record) for record in records)


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
