"""Keeps two runs out of one output folder; no file is left that could outlive its owner's claim."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import OutputError


@contextlib.contextmanager
def held(output: Path, option: str = "--output") -> Iterator[None]:
    """Makes the folder and keeps other runs out of it; the lock goes with the process, however that ends.

    Raises:
      OutputError: the folder cannot be written, or another run holds it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("a")
    except OSError as error:
        raise OutputError(f"{option} {output}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"{option} {output}: another run holds it; wait for it or choose another folder"
            ) from error
        yield
