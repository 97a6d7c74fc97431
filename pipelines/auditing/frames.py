"""TFRecord frames of one shard, read with findings instead of an end at the first fault.

    uint64 length | uint32 masked_crc(length) | byte data[length] | uint32 masked_crc(data)      (little endian)

The size and CRC-32C of the file are counted on the way, so a shard is read from disk once. A record whose data is
damaged is left out and the next one read; behind a damaged length nothing can be found again.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import google_crc32c

from schemas import storage

LONGEST_BYTES = 1 << 30
_STEP_BYTES = 4 << 20


@dataclass(frozen=True)
class Frame:
    """A record's number in its shard with its data, or with what is wrong with it."""

    number: int
    data: bytes = b""
    complaint: str = ""


class ShardFile:
    """A shard's frames; `bytes` and `crc32c` are those of the whole file once `frames` has come to its end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bytes = 0
        self.crc32c = 0

    def frames(self) -> Iterator[Frame]:
        """Every frame in order. A file that cannot be opened is one complaint."""
        try:
            file = storage.opened(self.path)
        except OSError as error:
            yield Frame(0, complaint=f"the file cannot be read: {error.strerror or error}")
            return
        with file:
            counted = _Counted(file, self)
            yield from _frames(_unzipped(counted) if self.path.endswith(".gz") else counted)
            while counted.read(_STEP_BYTES):
                pass

    def whole(self) -> tuple[int, int]:
        """(bytes, CRC-32C) of a file that is no shard; zeros where it cannot be read."""
        try:
            with storage.opened(self.path) as file:
                counted = _Counted(file, self)
                while counted.read(_STEP_BYTES):
                    pass
        except OSError:
            return 0, 0
        return self.bytes, self.crc32c


class _Counted:
    """A stream that adds what is read to a shard's bytes and checksum."""

    def __init__(self, stream: IO[bytes], shard: ShardFile) -> None:
        self._stream = stream
        self._shard = shard

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._shard.bytes += len(data)
        self._shard.crc32c = google_crc32c.extend(self._shard.crc32c, data)
        return data


def _unzipped(stream: _Counted) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=stream, mode="rb")  # type: ignore[call-overload,no-any-return]


def _masked(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _read(stream: _Counted | gzip.GzipFile, size: int) -> bytes:
    """So many bytes, or fewer at the end; in steps, as a stream sets aside at once what a hostile header asks for."""
    data = bytearray()
    while len(data) < size and (piece := stream.read(min(size - len(data), _STEP_BYTES))):
        data += piece
    return bytes(data)


def _frames(stream: _Counted | gzip.GzipFile) -> Iterator[Frame]:
    number = 0
    while True:
        try:
            header = stream.read(12)
            if not header:
                return
            if len(header) < 12:
                yield Frame(number, complaint=f"the shard ends {len(header)} bytes into a frame header")
                return
            length, told = struct.unpack("<QI", header)
            if _masked(header[:8]) != told:
                yield Frame(number, complaint="the CRC of the length does not match; nothing behind it can be read")
                return
            if length > LONGEST_BYTES:
                yield Frame(number, complaint=f"a length of {length:,} bytes is above {LONGEST_BYTES:,}")
                return
            data, footer = _read(stream, length), stream.read(4)
        except (OSError, EOFError, zlib.error) as error:
            yield Frame(number, complaint=f"the file cannot be read or unpacked: {error}")
            return
        if len(data) < length or len(footer) < 4:
            yield Frame(number, complaint=f"the shard ends inside a record of {length:,} bytes")
            return
        if _masked(data) != struct.unpack("<I", footer)[0]:
            yield Frame(number, complaint=f"the CRC of its {length:,} bytes of data does not match")
        else:
            yield Frame(number, data)
        number += 1
