"""Makes a dataset appear as a whole or not at all on an object store, where nothing can be renamed or locked.

    output/train/part-*, ...        written by tasks under names of run and attempt, straight to where they stay
    output/_staged/<run>/           files with fixed names until the manifest is in place
    output/_work/<run>.alive        a sign of life (`object_claim`)
    output.work/prebatch-<run>/     on a disk: what tasks map (see `outputs`)

The commit is one conditional write of manifest.json: if there is none, or, with --overwrite and when appending, if it
is still the one that stood there when the run began. Of any number of runs that come to this point one succeeds, and
the others remove what they wrote. What a failed upload leaves is named by no manifest. Where a store has no conditional
write (`RemoteFolder.write_if`) the last of two runs that publish in the same moment wins.
"""

import contextlib
import shutil
from pathlib import Path
from types import TracebackType

from pipelines.claim import ALIVE, WORK
from pipelines.object_claim import ObjectClaim
from pipelines.publication import OURS, SHARD_FOLDERS, Publication
from pipelines.sink import unwritable
from schemas.errors import CorruptDataset, EnvironmentProblem, OutputError
from schemas.manifest import MANIFEST, STAGED, Dataset, Manifest
from schemas.remote import RemoteFolder
from schemas.storage import Stored

WORK_NAME = "prebatch-"


class ObjectPublication(Publication):
    """A run's hold on an output that lies on a store; see Publication for its words.

    work: a folder on a disk, in which the run makes one of its own.
    """

    def __init__(
        self, store: RemoteFolder, overwrite: bool, appending: bool, abandoned_after: float, work: Path
    ) -> None:
        self._start(store, overwrite, appending)
        self._store, self._abandoned_after = store, abandoned_after
        self.work = work.absolute() / f"{WORK_NAME}{self.run}"
        self._sign = ObjectClaim(store, self.run, abandoned_after, self.work)
        self._replaced: str | None = None  # the version of the manifest that the run found
        self._unsure = False  # whether the manifest may be in place although nobody said so

    def __enter__(self) -> "ObjectPublication":
        try:
            try:
                self._sign.take()
                self._replaced = self._store.version(MANIFEST)
                self.check_free()
                self._clean()
            except OSError as error:
                raise unwritable(str(self._store), error) from error
            self._make_work()
        except BaseException:
            self._sign.withdraw()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if not self._committed and not self._unsure:
            with contextlib.suppress(OSError):  # what stays is named by nobody and grows old
                self._remove_own()
        self._sign.withdraw()

    def commit(self, manifest: Manifest) -> Dataset:
        """Puts the manifest in place, then the staged files under their names, then removes what is no longer named.

        Raises:
          OutputError: another run has published since this one began, or has taken it for dead.
        """
        try:
            self._sign.check_held()
            self._unsure = True
            done = self._store.write_if(MANIFEST, manifest.serialized(), self._replaced)
            self._committed, self._unsure = done is not None, False
            if not self._committed:
                raise OutputError(
                    f"another run has published to {self._store} since this one began, and its dataset stands; start "
                    "anew with --overwrite to replace it, or choose another output.path"
                )
            self._roll_forward_objects(self.run)
            self._sign.look()
            self._remove_strays(manifest)
        except OSError as error:
            raise unwritable(self._store.location(MANIFEST), error) from error
        return Dataset(self._store, manifest)

    def check_free(self) -> None:
        """The same; and whether the store can be reached at all, and written to on a condition from this machine."""
        try:
            self._store.version(MANIFEST)
            super().check_free()
        except OSError as error:
            raise EnvironmentProblem(
                f"{self._store} cannot be reached: {error}; check output.path, and what the environment says of it"
            ) from error

    def _make_work(self) -> None:
        try:
            self.work.mkdir(parents=True)
            now = self.work.stat().st_mtime
            for other in self.work.parent.glob(f"{WORK_NAME}*"):
                with contextlib.suppress(OSError):  # it has just gone, or is somebody else's
                    if now - other.stat().st_mtime > self._abandoned_after:
                        shutil.rmtree(other)
        except OSError as error:
            raise unwritable(self.work, error) from error

    def _clean(self) -> None:
        """Finishes a commit that was cut short and removes what dead runs left."""
        for run in self._sign.dead:
            self._store.delete(f"{WORK}/{run}{ALIVE}")  # first of all, so that a run that was only asleep is told
        manifest = None
        if self._replaced is not None:
            with contextlib.suppress(CorruptDataset):  # nothing can be said of its files; the new manifest replaces it
                manifest = Dataset.open(str(self._store)).manifest
                self._before = {file.path for file in manifest.stored_files()}
                self._roll_forward_objects(manifest.run)
        self._remove_strays(manifest)

    def _roll_forward_objects(self, run: str) -> None:
        """Gives staged files their names, the last step of a commit; may be repeated."""
        staged = f"{STAGED}/{run}/"
        for stored in sorted(self._store.files(f"{STAGED}/{run}"), key=lambda stored: stored.path):
            self._store.copy(stored.path, stored.path.removeprefix(staged))
            self._store.delete(stored.path)

    def _remove_strays(self, manifest: Manifest | None) -> None:
        """Removes what the manifest does not name and no other run may still need."""
        named = {file.path for file in manifest.stored_files()} if manifest else set()
        for folder in SHARD_FOLDERS:
            for stored in self._store.files(folder):
                ours = OURS.fullmatch(stored.path.removeprefix(f"{folder}/"))
                if ours and stored.path not in named and self._may_go(ours[1], stored):
                    self._store.delete(stored.path)
        for stored in self._store.files(STAGED):
            run = stored.path.split("/")[1]
            if run not in (self.run, manifest.run if manifest else "") and self._sign.is_over(run, stored):
                self._store.delete(stored.path)
        for stored in self._store.files("vocabulary"):
            if manifest and stored.path.endswith(".txt") and stored.path not in named:
                self._store.delete(stored.path)

    def _may_go(self, run: str, stored: Stored) -> bool:
        return run == self.run or stored.path in self._before or self._sign.is_over(run, stored)

    def _remove_own(self) -> None:
        for folder in (*SHARD_FOLDERS, f"{STAGED}/{self.run}"):
            for stored in self._store.files(folder):
                if self.run in stored.path:
                    self._store.delete(stored.path)
