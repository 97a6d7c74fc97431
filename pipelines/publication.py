"""Makes a dataset appear as a whole or not at all, and leaves the one before it alone until then.

    output/_work/<run>/     catalogue and other files that tasks share; gone after the run
    output/_staged/<run>/   files with fixed names (vocabulary/, schema.pbtxt) until the manifest is in place
    output/.lock            held (flock) while a run lives, so the kernel lets go of it even after kill -9

The rename of manifest.json is the commit. A run that finds the lock free cleans up what dead runs left behind.
"""

import contextlib
import datetime as dt
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import google_crc32c

from pipelines.sink import unwritable
from schemas.errors import CorruptDataset, OutputError, ProjectError
from schemas.manifest import MANIFEST, STAGED, Dataset, Manifest, StoredFile, local_path, write_atomically

WORK = "_work"
_AT_ONCE = 8 << 20  # bytes
SHARD_FOLDERS = ("train", "validation", "test", "items", "rejected")
# Names that only this job gives. A folder may hold part-* files of others, such as its own input; those are not ours.
_OURS = re.compile(r"part-.*\d{8}T\d{6}-[0-9a-f]{6}-[0-9a-f]{8}\.(tfrecord|tfrecord\.gz|parquet)")


class Publication:
    """A run's hold on its output. Use as a context: leaving it without `commit` removes all that the run wrote.

    appending: the run adds to the dataset that stands there, so there must be one, and its manifest will name files of
    runs before this one.
    """

    def __init__(self, uri: str, overwrite: bool, appending: bool = False) -> None:
        self.root = local_path(uri).absolute()
        self.run = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        self.work = self.root / WORK / self.run
        self._overwrite, self._appending = overwrite, appending
        self._lock: IO[str] | None = None
        self._created = False
        self._committed = False

    def __enter__(self) -> "Publication":
        try:
            self._created = not self.root.exists()
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = (self.root / ".lock").open("w")
            self._acquire(self._lock)
            self.check_free()
            self._clean()
            self.work.mkdir(parents=True)
        except OSError as error:
            self._release()
            raise unwritable(self.root, error) from error
        except ProjectError:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if not self._committed:
            shutil.rmtree(self.root / STAGED / self.run, ignore_errors=True)
            for folder in SHARD_FOLDERS:
                for path in (self.root / folder).glob(f"part-*{self.run}*"):
                    path.unlink(missing_ok=True)
        self._remove_empty_folders()
        self._release()

    def stage(self, path: str, data: bytes) -> StoredFile:
        """Keeps a file of a fixed name until the commit."""
        staged = self.root / STAGED / self.run / path
        try:
            write_atomically(staged, data)
        except OSError as error:
            raise unwritable(staged, error) from error
        return StoredFile(path, len(data), google_crc32c.value(data))

    def stage_files(self, path: str, start: bytes, pieces: Sequence[str]) -> StoredFile:
        """Keeps a file put together from others, which may be larger than memory."""
        staged = self.root / STAGED / self.run / path
        size, crc = len(start), google_crc32c.value(start)
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as stream:
                stream.write(start)
                for piece in pieces:
                    with Path(piece).open("rb") as source:
                        while data := source.read(_AT_ONCE):
                            stream.write(data)
                            size, crc = size + len(data), google_crc32c.extend(crc, data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise unwritable(staged, error) from error
        return StoredFile(path, size, crc)

    def commit(self, manifest: Manifest) -> Dataset:
        """Puts the manifest in place, then the staged files under their names, then removes what is no longer named."""
        text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False)
        try:
            write_atomically(self.root / MANIFEST, text.encode())
            self._committed = True
            _roll_forward(self.root, self.run)
            _remove_orphans(self.root, manifest)
        except OSError as error:
            raise unwritable(self.root / MANIFEST, error) from error
        return Dataset(self.root, manifest)

    def _acquire(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another run holds {self.root}; wait for it to end, or choose another output.path"
            raise OutputError(message) from error
        if not os.fstat(lock.fileno()).st_nlink:  # the run that made it was on its way out
            raise OutputError(f"another run was leaving {self.root} just now; start once more")

    def check_free(self) -> None:
        """Raises an OutputError where a dataset stands that may not be replaced; cheap, so it is asked early."""
        if self._appending:
            Dataset.open(self.root)
        elif (self.root / MANIFEST).exists() and not self._overwrite:
            raise OutputError(
                f"{self.root} holds a dataset already; replace it with --overwrite, or choose another output.path"
            )

    def _clean(self) -> None:
        """Finishes a commit that was cut short and removes what dead runs left; the lock says that none is alive."""
        if (self.root / MANIFEST).exists():
            try:
                manifest = Dataset.open(self.root).manifest
            except CorruptDataset:
                return  # what is there cannot be told from rubbish; the new manifest will replace it
            _roll_forward(self.root, manifest.run)
            _remove_orphans(self.root, manifest)
        else:
            _remove_orphans(self.root, None)
        for folder in (WORK, STAGED):
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def _remove_empty_folders(self) -> None:
        for folder in (WORK, STAGED, *SHARD_FOLDERS, "vocabulary"):
            _rmdir_if_empty(self.root / folder)
        if not self._committed and self._created:
            (self.root / ".lock").unlink(missing_ok=True)
            _rmdir_if_empty(self.root)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()


def _roll_forward(root: Path, run: str) -> None:
    """Gives staged files their names, the last step of a commit; may be repeated."""
    staged = root / STAGED / run
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            target = root / path.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    shutil.rmtree(staged, ignore_errors=True)


def _remove_orphans(root: Path, manifest: Manifest | None) -> None:
    """Removes shards and vocabularies that the manifest does not name."""
    named = {file.path for file in manifest.stored_files()} if manifest else set()
    for folder in SHARD_FOLDERS:
        for path in (root / folder).glob("part-*"):
            if _OURS.fullmatch(path.name) and f"{folder}/{path.name}" not in named:
                path.unlink(missing_ok=True)
    for path in (root / "vocabulary").glob("*.txt"):
        if manifest and f"vocabulary/{path.name}" not in named:
            path.unlink(missing_ok=True)


def _rmdir_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not there: both are fine
        folder.rmdir()
