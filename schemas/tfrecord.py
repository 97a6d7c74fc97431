"""TFRecord framing: length, masked CRC-32C of the length, data, masked CRC-32C of the data.

    uint64 length | uint32 masked_crc(length) | byte data[length] | uint32 masked_crc(data)      (little endian)

The format of TensorFlow's `tf.io.TFRecordWriter` and Beam's `tfrecordio`, without either: importing TensorFlow costs a
Spark worker eight seconds. Reading checks both CRCs and bounds the length, so hostile bytes cost no memory.
"""

import functools
import struct
import zlib
from collections.abc import Container, Iterable, Iterator
from typing import IO

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import wire
from schemas.errors import CorruptDataset

FRAME_BYTES = 16
MAX_RECORD_BYTES = 1 << 30
_AT_ONCE = 4 << 20  # bytes
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


def framed(records: wire.Pieces) -> tuple[npt.NDArray[np.uint8], list[npt.NDArray[np.uint8]]]:
    """(the bytes of a file that holds these records, the records one by one as views of it).

    Copies every record once: the checksum behind each is known only then, and put where room was left for it.
    """
    distinct, place = wire.distinct_sizes(records.sizes)
    headers = pa.array([_header(length) for length in distinct.tolist()], pa.large_binary()).take(pa.array(place))
    room = pa.repeat(pa.scalar(bytes(_CRC.size), pa.large_binary()), len(place))
    offsets, data = wire.buffers_of(wire.Pieces([headers, *records.parts, room], records.sizes + FRAME_BYTES).joined())
    octets = np.frombuffer(data, np.uint8)[: offsets[-1]]  # Arrow's buffers may be longer than what is in them
    ends = offsets[1:] - _CRC.size
    slices = [
        octets[begin:end] for begin, end in zip((offsets[:-1] + _HEADER.size).tolist(), ends.tolist(), strict=True)
    ]
    crcs = np.fromiter(map(google_crc32c.value, slices), np.uint32, len(slices))
    masked = ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK_DELTA)
    octets[ends[:, None] + np.arange(_CRC.size)] = masked.astype("<u4").view(np.uint8).reshape(-1, _CRC.size)
    return octets, slices


def read_frames(
    stream: IO[bytes], name: str, max_record_bytes: int = MAX_RECORD_BYTES, only: Container[int] | None = None
) -> Iterator[bytes]:
    """Records of an open stream of what was written, unzipped where it was zipped, in order.

    only: the numbers of those that are given; of the others nothing but the length is looked at.
    Memory goes by what is there and not by what a header says: of a record no more than `_AT_ONCE` bytes beyond those
    that have come.

    Raises:
      CorruptDataset: a truncated frame, a wrong CRC, a length above `max_record_bytes` or a stream that cannot be
      unpacked; it says which record of `name`.
    """
    number = 0
    while header := _read(stream, _HEADER.size, where := f"{name}, record {number}"):
        if len(header) < _HEADER.size:
            raise CorruptDataset(f"{where}: the shard ends inside a frame header")
        length, length_crc = _HEADER.unpack(header)
        if masked_crc32c(header[: _LENGTH.size]) != length_crc:
            raise CorruptDataset(f"{where}: the CRC of the length does not match")
        if length > max_record_bytes:
            raise CorruptDataset(f"{where}: a length of {length} bytes is above the limit of {max_record_bytes}")
        record = _read(stream, length, where)
        footer = _read(stream, _CRC.size, where)
        if len(record) < length or len(footer) < _CRC.size:
            raise CorruptDataset(f"{where}: the shard ends inside a record")
        if only is None or number in only:
            if masked_crc32c(record) != _CRC.unpack(footer)[0]:
                raise CorruptDataset(f"{where}: the CRC of the data does not match")
            yield record
        number += 1


def _read(stream: IO[bytes], size: int, where: str) -> bytes:
    """So many bytes, or fewer at the end of the stream. A stream sets aside at once what it is asked for."""
    try:
        if size <= _AT_ONCE:
            return stream.read(size)
        pieces: list[bytes] = []
        while size and (piece := stream.read(min(size, _AT_ONCE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptDataset(f"{where}: the shard cannot be read or unpacked: {error}") from error
