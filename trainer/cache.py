"""The trainer's copy of a dataset that lies on an object store: tf.data reads files.

Each file is fetched once, checked against the manifest on its way, and kept below a folder that is the dataset's run's
own, so that another training, or another epoch, reads it from the disk. Costs the dataset's bytes on that disk, and
nothing for datasets that are on one. Nothing is ever removed: a folder in it may be deleted at any time between runs.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import google_crc32c

from schemas.errors import CorruptDataset, EnvironmentProblem, ProjectError
from schemas.files import CHUNK_BYTES, file_crc32c
from schemas.manifest import Dataset, StoredFile

VARIABLE = "PREBATCH_CACHE"
_AT_ONCE = 8


def folder() -> Path:
    """Where copies are kept: PREBATCH_CACHE (`--cache`), else the user's cache folder."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prebatch"


def copied(dataset: Dataset, files: Iterable[StoredFile]) -> Dataset:
    """The dataset on this machine's disk, with those of its files, all of them as the manifest says.

    Raises:
      CorruptDataset: a file is missing on the store or differs. ProjectError: the store cannot be read.
        EnvironmentProblem: a disk that refuses.
    """
    told = f"{dataset.uri}\n{dataset.manifest.run}\n{dataset.manifest.content_digest}"
    root = folder() / f"{dataset.name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    copy = Dataset(root, dataset.manifest, dataset.uri)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for done in [threads.submit(_fetch, dataset, copy, file) for file in files]:
            done.result()
    return copy


def _fetch(dataset: Dataset, copy: Dataset, file: StoredFile) -> None:
    target, source = copy.path(file), dataset.location(file)
    if target.exists() and target.stat().st_size == file.bytes and file_crc32c(target) == file.crc32c:
        return
    try:
        stream = dataset.opened(file)
    except OSError as error:
        raise CorruptDataset(f"{source}: the manifest names this file, but it cannot be read: {error}") from error
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    size = crc = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with stream, partial.open("wb") as out:
            while data := _read(stream, source):
                out.write(data)
                size, crc = size + len(data), google_crc32c.extend(crc, data)
        if (size, crc) != (file.bytes, file.crc32c):
            raise CorruptDataset(
                f"{source}: {size} bytes with CRC-32C {crc} found, {file.bytes} with {file.crc32c} expected by the "
                "manifest; write the dataset anew"
            )
        partial.replace(target)
    except OSError as error:
        raise EnvironmentProblem(
            f"writing {target} failed: {error.strerror or error}; make room there, or choose another folder (--cache)"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _read(stream: IO[bytes], source: str) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except OSError as error:
        raise ProjectError(f"{source} cannot be read: {error}") from error
