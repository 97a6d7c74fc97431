"""Apache Beam as the commands here use it: imported when it is needed, run in this process, quiet."""

import contextlib
import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from schemas.errors import EnvironmentProblem


def beam_and_runner() -> tuple[Any, Any]:
    """(Beam, its direct runner); what it says of Google's libraries, and tracebacks beside errors, are left out."""
    try:
        with quiet():
            beam = import_module("apache_beam")
            direct = import_module("apache_beam.runners.portability.fn_api_runner")
    except ImportError as error:
        raise EnvironmentProblem(f"apache-beam is missing ({error}); pip install 'prebatch[beam]'") from error
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    return beam, direct


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings of libraries that log to the root, as Beam's inference does about memory."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
