"""How a command ends: one line on stderr and the right exit code, a traceback only when asked for."""

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from schemas.errors import ProjectError


@contextmanager
def reporting_errors(debug: bool) -> Iterator[None]:
    """Turns what is raised inside into a line on stderr and an exit code (see schemas.errors).

    SIGTERM ends a command as Ctrl-C does, so that what it wrote is tidied up: schedulers send it and wait a while.
    """
    try:
        with _termination_raised():
            yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except _Terminated:
        click.echo("terminated; the output is as it was before", err=True)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        click.echo("interrupted; the output is as it was before", err=True)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the one place that turns whatever is left into a line and a code
        known = error if isinstance(error, ProjectError) else _explained(error)
        if debug:
            traceback.print_exc()
        if known is None:
            first = str(error).strip().split("\n")[0]
            known = ProjectError(f"{type(error).__name__}: {first} (--debug shows where)")
        click.echo(f"error: {known}", err=True)
        sys.exit(known.exit_code)


class _Terminated(BaseException):
    """SIGTERM, raised where the program was; no `except Exception` may take it for a failure of its own."""


@contextmanager
def _termination_raised() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one is told of signals
        yield
        return

    def terminated(number: int, frame: object) -> None:  # noqa: ARG001 - what a signal brings
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the tidying short
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explained(error: Exception) -> ProjectError | None:
    if "pyspark" not in sys.modules:
        return None
    from pipelines.session import explained

    return explained(error)
