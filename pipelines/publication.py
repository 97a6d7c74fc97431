"""Makes a dataset appear as a whole or not at all, and leaves the one before it alone until then.

    output/_work/<run>/     catalogue and other files that tasks share; gone after the run
    output/_staged/<run>/   files with fixed names (vocabulary/, schema.pbtxt) until the manifest is in place

The rename of manifest.json is the commit. A run claims the folder first (see `claim`) and then cleans up what dead runs
left behind. Shards carry their run and attempt in their names: what an attempt writes that outlives its run or lost to
another attempt is in nobody's way, and a later run removes it once it is old enough.
"""

import contextlib
import datetime as dt
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import google_crc32c

from pipelines.claim import ALIVE, WORK, Claim
from pipelines.sink import unwritable
from schemas.errors import CorruptDataset, OutputError, ProjectError
from schemas.files import local_path, sync_folder, write_atomically
from schemas.manifest import MANIFEST, STAGED, Dataset, Manifest, StoredFile
from schemas.storage import Folder, LocalFolder

_AT_ONCE = 8 << 20  # bytes
SHARD_FOLDERS = ("train", "validation", "test", "items", "rejected")
# Names that only this job gives. A folder may hold part-* files of others, such as its own input; those are not ours.
OURS = re.compile(r"part-.*(\d{8}T\d{6}-[0-9a-f]{6})-[0-9a-f]{8}\.(tfrecord|tfrecord\.gz|parquet)")
ABANDONED_SECONDS = 300.0


class Publication:
    """A run's hold on its output. Use as a context: leaving it without `commit` removes all that the run wrote.

    appending: the run adds to the dataset that stands there, so there must be one, and its manifest will name files of
    runs before this one. abandoned_after: seconds without a sign of life after which another machine's run is dead.
    """

    def __init__(
        self, uri: str, overwrite: bool, appending: bool = False, abandoned_after: float = ABANDONED_SECONDS
    ) -> None:
        self.root = local_path(uri).absolute()
        self._start(LocalFolder(self.root), overwrite, appending)
        self.work = self.root / WORK / self.run
        self._claim = Claim(self.root, self.run, abandoned_after)
        self._created = False

    def _start(self, folder: Folder, overwrite: bool, appending: bool) -> None:
        """What a run needs wherever its output lies, see also `object_publication`."""
        self.folder = folder
        self.run = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        self._overwrite, self._appending = overwrite, appending
        self._before: set[str] = set()  # files of the dataset that stands there
        self._committed = False

    def __enter__(self) -> "Publication":
        try:
            self._created = not self.root.exists()
            self.root.mkdir(parents=True, exist_ok=True)
            self._claim.take()
            self.check_free()
            self._clean()
            self.work.mkdir(parents=True)
        except OSError as error:
            self._claim.release()
            raise unwritable(self.root, error) from error
        except ProjectError:
            self._claim.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self._committed = self._committed or self._is_in_place()
        if not self._committed:
            shutil.rmtree(self.root / STAGED / self.run, ignore_errors=True)
            for folder in SHARD_FOLDERS:
                for path in (self.root / folder).glob(f"part-*{self.run}*"):
                    path.unlink(missing_ok=True)
        self._claim.withdraw()
        self._remove_empty_folders()
        self._claim.release()

    def stage(self, path: str, data: bytes) -> StoredFile:
        """Keeps a file of a fixed name until the commit."""
        staged = f"{STAGED}/{self.run}/{path}"
        try:
            self.folder.write(staged, data)
        except OSError as error:
            raise unwritable(self.folder.location(staged), error) from error
        return StoredFile(path, len(data), google_crc32c.value(data))

    def stage_files(self, path: str, start: bytes, pieces: Sequence[str]) -> StoredFile:
        """Keeps a file put together from others, which may be larger than memory."""
        staged = f"{STAGED}/{self.run}/{path}"
        size, crc = len(start), google_crc32c.value(start)
        try:
            writer = self.folder.writer(staged)
            try:
                writer.write(start)
                for piece in pieces:
                    with Path(piece).open("rb") as source:
                        while data := source.read(_AT_ONCE):
                            writer.write(data)
                            size, crc = size + len(data), google_crc32c.extend(crc, data)
                writer.close()
            except BaseException:
                writer.discard()
                raise
        except OSError as error:
            raise unwritable(self.folder.location(staged), error) from error
        return StoredFile(path, size, crc)

    def commit(self, manifest: Manifest) -> Dataset:
        """Puts the manifest in place, then the staged files under their names, then removes what is no longer named."""
        self._claim.check_held()
        try:
            write_atomically(self.root / MANIFEST, manifest.serialized())
            self._committed = True
            _roll_forward(self.root, self.run)
            self._remove_orphans(manifest)
        except OSError as error:
            raise unwritable(self.root / MANIFEST, error) from error
        return Dataset(self.root, manifest)

    def check_free(self) -> None:
        """Raises an OutputError where a dataset stands that may not be replaced; cheap, so it is asked early."""
        if self._appending:
            Dataset.open(str(self.folder))
        elif self.folder.exists(MANIFEST) and not self._overwrite:
            raise OutputError(
                f"{self.folder} holds a dataset already; replace it with --overwrite, or choose another output.path"
            )

    def _clean(self) -> None:
        """Finishes a commit that was cut short and removes what dead runs left."""
        manifest = None
        if (self.root / MANIFEST).exists():
            with contextlib.suppress(CorruptDataset):  # nothing can be said of its files; the new manifest replaces it
                manifest = Dataset.open(self.root).manifest
                self._before = {file.path for file in manifest.stored_files()}
                _roll_forward(self.root, manifest.run)
        self._remove_orphans(manifest)
        for folder in (WORK, STAGED):
            for path in (self.root / folder).glob("*"):
                if self._claim.is_over(path.name.removesuffix(ALIVE), path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _remove_orphans(self, manifest: Manifest | None) -> None:
        """Removes shards and vocabularies that the manifest does not name and no other run may still need."""
        named = {file.path for file in manifest.stored_files()} if manifest else set()
        for folder in SHARD_FOLDERS:
            for path in (self.root / folder).glob("part-*"):
                ours = OURS.fullmatch(path.name)
                if ours and f"{folder}/{path.name}" not in named and self._is_over(ours[1], path):
                    path.unlink(missing_ok=True)
        for path in (self.root / "vocabulary").glob("*.txt"):
            if manifest and f"vocabulary/{path.name}" not in named:
                path.unlink(missing_ok=True)

    def _is_over(self, run: str, path: Path) -> bool:
        replaced = path.relative_to(self.root).as_posix() in self._before
        return run == self.run or replaced or self._claim.is_over(run, path)

    def _is_in_place(self) -> bool:
        """Whether this run's manifest stands there: a signal may come between its rename and the next line."""
        try:
            return Dataset.open(self.root).manifest.run == self.run
        except ProjectError:
            return False

    def _remove_empty_folders(self) -> None:
        for folder in (WORK, STAGED, *SHARD_FOLDERS, "vocabulary"):
            _rmdir_if_empty(self.root / folder)
        if not self._committed and self._created:
            (self.root / ".lock").unlink(missing_ok=True)
            _rmdir_if_empty(self.root)


def _roll_forward(root: Path, run: str) -> None:
    """Gives staged files their names, the last step of a commit; may be repeated."""
    staged = root / STAGED / run
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            target = root / path.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            sync_folder(target.parent)
    shutil.rmtree(staged, ignore_errors=True)


def _rmdir_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not there: both are fine
        folder.rmdir()
