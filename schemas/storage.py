"""Where a dataset lies: a folder on a disk, or on an object store, in the same few words.

    /data/x, file:///data/x       local and mounted file systems
    s3://bucket/x (s3a://, s3n://)  S3 and stores that speak its protocol, see schemas/s3.py
    gs://bucket/x, hdfs://host/x  through pyarrow.fs, see schemas/remote.py

Producer, trainer, inspect, audit and embed know no more of a store than this. Paths inside a folder are relative, with
slashes. Whatever goes wrong is an OSError, FileNotFoundError for what is not there, on a disk as on a store. Costs
nothing for local folders: what a remote one needs is only then imported.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from schemas.files import local_path, sync_folder, write_atomically

_SENT_TOGETHER = 4 << 20  # bytes


@dataclass(frozen=True)
class Stored:
    """A file by its path in a folder; modified: seconds, by the clock of the disk or store."""

    path: str
    bytes: int
    modified: float


class Writer(Protocol):
    """A file being written in pieces. It counts once `close` has returned; `discard` takes it away."""

    def write(self, data: Any) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


class Folder(Protocol):
    """A folder somewhere; `str` of it is its path or URI."""

    @property
    def name(self) -> str:
        """The last part of its path."""

    def location(self, path: str) -> str:
        """The whole path or URI of a file in it."""

    def exists(self, path: str) -> bool:
        """Whether a file of that path is there."""

    def size(self, path: str) -> int:
        """Bytes of a file."""

    def opened(self, path: str) -> IO[bytes]:
        """A file from its beginning, buffered."""

    def read(self, path: str) -> bytes:
        """A whole file."""

    def files(self, below: str = "") -> Iterator[Stored]:
        """Every file at any depth below a path; none where that is not there."""

    def write(self, path: str, data: bytes) -> None:
        """Puts data under a name as a whole, in place of what was there."""

    def writer(self, path: str) -> Writer:
        """A new file, to be written in pieces."""

    def delete(self, path: str) -> None:
        """Removes a file, which need not be there."""


class LocalFolder:
    """A folder of a local or mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    def location(self, path: str) -> str:
        """The whole path of a file in it."""
        return str(self.path / path)

    def exists(self, path: str) -> bool:
        """Whether a file of that path is there."""
        return (self.path / path).exists()

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return (self.path / path).stat().st_size

    def opened(self, path: str) -> IO[bytes]:
        """A file from its beginning."""
        return (self.path / path).open("rb")

    def read(self, path: str) -> bytes:
        """A whole file."""
        return (self.path / path).read_bytes()

    def files(self, below: str = "") -> Iterator[Stored]:
        """Every file at any depth below a path."""
        for folder, _, names in os.walk(self.path / below):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):  # it has just been taken away
                    found = path.lstat()
                    yield Stored(path.relative_to(self.path).as_posix(), found.st_size, found.st_mtime)

    def write(self, path: str, data: bytes) -> None:
        """Puts data under a name as a whole, by a rename."""
        write_atomically(self.path / path, data)

    def writer(self, path: str) -> "LocalWriter":
        """A new file, under its name from the start."""
        return LocalWriter(self.path / path)

    def delete(self, path: str) -> None:
        """Removes a file, which need not be there."""
        (self.path / path).unlink(missing_ok=True)


class LocalWriter:
    """A file on a disk, being written.

    Its bytes are on their way to the disk as they come, so that little is left to wait for at the end, and do not stay
    in memory: that is for what a job reads again, such as a mapped catalogue and shuffled clicks. Whoever reads the
    file at once reads it from the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("wb")
        self._sent = 0  # bytes

    def write(self, data: Any) -> None:  # bytes, or an array of them, which Python 3.11 cannot tell a type checker
        """Appends data."""
        self._stream.write(data)
        end = self._stream.tell()
        if end - self._sent >= _SENT_TOGETHER:
            # The disk begins with what is new, and has most of what was sent before.
            _let_go(self._stream, max(0, self._sent - 2 * _SENT_TOGETHER), end)
            self._sent = end

    def close(self) -> None:
        """Waits until the disk has the file's bytes and its name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        _let_go(self._stream, 0, self._stream.tell())
        self._stream.close()
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Removes what was written, as far as the disk allows."""
        with contextlib.suppress(OSError):  # a full disk complains once more; the file goes all the same
            self._stream.close()
        self._path.unlink(missing_ok=True)


def _let_go(stream: IO[bytes], begin: int, end: int) -> None:
    """Advises the system to write these bytes, and to take those out of memory that are written."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(stream.fileno(), begin, end - begin, os.POSIX_FADV_DONTNEED)


def folder(uri: str | Path) -> Folder:
    """The folder at a path or URI.

    Raises:
      ConfigurationError: no such kind of store, or a URI that carries what does not belong there.
    """
    if not is_remote(uri):
        return LocalFolder(local_path(uri))
    from schemas import remote  # loads pyarrow's file systems

    return remote.folder(str(uri))


def is_remote(uri: str | Path) -> bool:
    """Whether a URI is anything but a local path."""
    return "://" in str(uri) and not str(uri).startswith("file:")


def opened(location: str) -> IO[bytes]:
    """A file anywhere, from its beginning, by its whole path or URI."""
    if not is_remote(location):
        return local_path(location).open("rb")
    parent, _, name = location.rpartition("/")
    return folder(parent).opened(name)
