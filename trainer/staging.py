"""A folder that appears as a whole: written under a hidden name beside it, given its own when all is there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import OutputError


@contextmanager
def staged(output: Path, marker: str, what: str) -> Iterator[Path]:
    """A new folder that takes the output's name once the block ends well; otherwise all is as it was.

    Args:
      marker: the file by which a folder of this kind is known; any other folder with something in it is not replaced.
      what: it is, for the message.

    Raises:
      OutputError: something else stands there, or nothing can be written.
    """
    if output.exists() and not (output / marker).exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"--output {output}: holds something else than {what}; choose another folder")
    folder = output.absolute().with_name(f".{output.name}-{os.getpid()}")
    old = folder.with_name(f"{folder.name}-old")
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a killed process that had the same number
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"--output {output}: cannot be written: {error.strerror}") from error
    try:
        yield folder
        if output.exists():
            output.replace(old)
        try:
            folder.replace(output)
        except OSError:
            if old.exists():
                old.replace(output)
            raise
    finally:
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)
