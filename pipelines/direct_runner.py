"""Apache Beam as the commands here use it: imported when it is needed, run in this process, quiet."""

import logging
from importlib import import_module
from typing import Any

from schemas.errors import EnvironmentProblem


def beam_and_runner() -> tuple[Any, Any]:
    """(Beam, its direct runner); what it says of Google's libraries, and tracebacks beside errors, are left out."""
    quiet = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        beam = import_module("apache_beam")
        direct = import_module("apache_beam.runners.portability.fn_api_runner")
    except ImportError as error:
        raise EnvironmentProblem(f"apache-beam is missing ({error}); pip install 'prebatch[beam]'") from error
    finally:
        logging.disable(quiet)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    return beam, direct
