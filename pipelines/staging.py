"""A folder that appears as a whole: written under a name beside it, given its own when all is there."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.sink import unwritable
from schemas.errors import OutputError
from schemas.files import local_path


def check_free(uri: str, overwrite: bool) -> Path:
    """The path of an output folder; an OutputError where something stands there that may not be replaced."""
    path = local_path(uri).absolute()
    if path.exists() and not overwrite:
        raise OutputError(f"--output {path}: is there already; replace it with --overwrite, or choose another folder")
    return path


@contextmanager
def staged(uri: str, overwrite: bool) -> Iterator[Path]:
    """A new folder that takes the output's name once the block ends well; otherwise all is as it was."""
    target = check_free(uri, overwrite)
    folder = target.with_name(f"{target.name}-{uuid.uuid4().hex[:8]}-unfinished")  # Spark warns of names with a dot
    old = folder.with_name(f"{folder.name}-old")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield folder
        check_free(uri, overwrite)
        if target.exists():
            target.replace(old)
        folder.replace(target)
    finally:
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)
