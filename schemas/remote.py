"""A folder on an object store or HDFS, through pyarrow.fs.

A name on a store has its bytes all at once, when the stream behind it is closed, and a stream is closed even when its
writer fails: what failed is published truncated. So files that count get names nobody else uses, are removed when they
fail, and count only by the manifest. Stores can neither rename a folder nor lock one; what they have instead is
`version` and `write_if`. Credentials come from the environment alone and never stand in a URI.
"""

import functools
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from schemas.errors import ConfigurationError, EnvironmentProblem
from schemas.storage import Stored

BUFFER_BYTES = 4 << 20
KINDS = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs", "hdfs": "hdfs"}
_GIVE_UP_SECONDS = 60  # pyarrow's default for Google's store is 15 minutes


class RemoteFolder:
    """A folder of a pyarrow file system; base: its path there."""

    def __init__(self, uri: str, system: fs.FileSystem, base: str) -> None:
        self.uri = uri
        self._system, self._base = system, base

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self._base).name

    def location(self, path: str) -> str:
        """The whole URI of a file in it."""
        return f"{self.uri}/{path}"

    def exists(self, path: str) -> bool:
        """Whether a file of that path is there."""
        return bool(self._info(path).is_file)

    def size(self, path: str) -> int:
        """Bytes of a file."""
        info = self._info(path)
        if not info.is_file:
            raise FileNotFoundError(f"{self.location(path)}: no such object")
        return int(info.size)

    def opened(self, path: str) -> IO[bytes]:
        """A file from its beginning; asked of the store in pieces of 4 MiB."""
        full = self._full(path)
        # Nothing is to be unzipped on the way, whatever the name ends with.
        return cast("IO[bytes]", self._system.open_input_stream(full, compression=None, buffer_size=BUFFER_BYTES))

    def read(self, path: str) -> bytes:
        """A whole file."""
        with self.opened(path) as stream:
            return stream.read()

    def files(self, below: str = "") -> Iterator[Stored]:
        """Every file at any depth below a path."""
        selector = fs.FileSelector(self._full(below), allow_not_found=True, recursive=True)
        for info in self._system.get_file_info(selector):
            if info.is_file:
                path = PurePosixPath(info.path).relative_to(self._base).as_posix()
                yield Stored(path, int(info.size), (info.mtime_ns or 0) / 1e9)

    def write(self, path: str, data: bytes) -> None:
        """Puts data under a name as a whole, in place of what was there."""
        writer = self.writer(path)
        try:
            writer.write(data)
            writer.close()
        except BaseException:
            writer.discard()
            raise

    def writer(self, path: str) -> "RemoteWriter":
        """A new file, to be written in pieces."""
        full = self._full(path)
        if self._system.type_name not in ("s3", "gcs"):  # where folders are more than parts of names
            self._system.create_dir(str(PurePosixPath(full).parent), recursive=True)
        return RemoteWriter(self._system.open_output_stream(full, compression=None), self, path)

    def delete(self, path: str) -> None:
        """Removes a file, which need not be there."""
        try:
            self._system.delete_file(self._full(path))
        except FileNotFoundError:
            return

    def copy(self, source: str, target: str) -> None:
        """Copies a file inside the store, in place of what was there."""
        self._system.copy_file(self._full(source), self._full(target))

    def modified(self, path: str) -> float | None:
        """When a file was written, in seconds by the store's clock; None where there is none."""
        info = self._info(path)
        return (info.mtime_ns or 0) / 1e9 if info.is_file else None

    def version(self, path: str) -> str | None:
        """What tells a file from whatever takes its place; None where there is none."""
        info = self._info(path)
        return f"{info.mtime_ns}-{info.size}" if info.is_file else None

    def write_if(self, path: str, data: bytes, version: str | None) -> str | None:
        """Writes a file if it is still of that `version` (None: if there is none); the new version, else None.

        Not one step here, as pyarrow has no conditional write: of two that write within the same moment both may
        believe that they did, and the last one's file stands. Stores that can do better override it.
        """
        found = self.version(path)
        if found == version:
            self.write(path, data)
            found = self.version(path)
        return found if found is not None and self.read(path) == data else None

    def _info(self, path: str) -> Any:
        return self._system.get_file_info(self._full(path))

    def _full(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base


class RemoteWriter:
    """A file on a store, on its way there in parts of some megabytes."""

    def __init__(self, stream: Any, folder: RemoteFolder, path: str) -> None:
        self._stream, self._folder, self._path = stream, folder, path

    def write(self, data: Any) -> None:
        """Appends data, which must not change before `close`."""
        self._stream.write(data)

    def close(self) -> None:
        """Puts the whole under its name."""
        self._stream.close()

    def discard(self) -> None:
        """Removes what was written; closing publishes it, as pyarrow has no other way to end an upload."""
        try:
            self._stream.close()
        except OSError:
            return  # then there is nothing under that name
        self._folder.delete(self._path)


def folder(uri: str) -> RemoteFolder:
    """The folder at a URI.

    Raises:
      ConfigurationError: no such kind of store, or credentials in the URI. EnvironmentProblem: the machine lacks what
        this kind of store needs.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme not in KINDS:
        raise ConfigurationError(f"{scheme}://: expected a path or a URI of file, s3, s3a, gs or hdfs")
    parts, kind = urlsplit(uri), KINDS[scheme]
    if parts.password is not None or parts.query or (kind != "hdfs" and "@" in parts.netloc):
        raise ConfigurationError(
            f"a {scheme}: URI with credentials or options in it is refused, as it would stand in manifests and logs; "
            "give them by the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS)"
        )
    if not parts.netloc:
        raise ConfigurationError(f"{uri!r}: expected the name of a {'host' if kind == 'hdfs' else 'bucket'} behind //")
    path = parts.path.rstrip("/")
    if kind == "s3":
        from schemas import s3

        return s3.S3Folder(f"s3://{parts.netloc}{path}", parts.netloc, path.lstrip("/"))
    base = path if kind == "hdfs" else f"{parts.netloc}{path}"
    return RemoteFolder(f"{kind}://{parts.netloc}{path}", _system(kind, parts.netloc), base)


@functools.lru_cache(maxsize=16)
def _system(kind: str, host: str) -> fs.FileSystem:
    options = f"?retry_limit_seconds={_GIVE_UP_SECONDS}" if kind == "gs" else ""
    try:
        return fs.FileSystem.from_uri(f"{kind}://{host}/{options}")[0]
    except (OSError, pa.ArrowException) as error:
        lacking = "; libhdfs needs JAVA_HOME, HADOOP_HOME and CLASSPATH" if kind == "hdfs" else ""
        raise EnvironmentProblem(f"{kind}://{host} cannot be reached: {str(error).splitlines()[0]}{lacking}") from error
