"""Files on a disk, written so that nobody ever sees half of one, and checksums of them."""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import IO

import google_crc32c

from schemas.errors import ConfigurationError

CHUNK_BYTES = 4 << 20


def local_path(uri: str | Path) -> Path:
    """The local path of a URI, for what has to be on a disk.

    Raises:
      ConfigurationError: it lies on an object store or another machine.
    """
    text = re.sub(r"^file:(//)?(?=/)", "", str(uri))
    if "://" in text:
        raise ConfigurationError(f"expected a local path or file: URI, got {text!r}: this has to be on a disk")
    return Path(text)


def stream_crc32c(stream: IO[bytes]) -> int:
    """CRC-32C of all that a stream still holds, read in pieces."""
    crc = 0
    while chunk := stream.read(CHUNK_BYTES):
        crc = google_crc32c.extend(crc, chunk)
    return crc


def file_crc32c(path: Path) -> int:
    """CRC-32C of a whole file."""
    with path.open("rb") as stream:
        return stream_crc32c(stream)


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Puts data under a name as a whole: a reader sees what was there before, or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder, which a file's own fsync does not promise.

    Some shared file systems refuse this; they have their own ways, and it is no reason to fail.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
