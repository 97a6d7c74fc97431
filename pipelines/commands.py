"""How a command ends: one line on stderr and the right exit code, a traceback only when asked for.

The line is text, or with `--log json` an event (schemas/events.py). No secret gets into either, nor into a traceback.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

import click

from schemas import events, redaction
from schemas.errors import ConfigurationError, ProjectError

log_option = click.option(
    "--log", type=click.Choice(events.FORMATS), default="text", show_default=True,
    help="How to tell on stderr what happens: words, or one JSON object a line.",
)  # fmt: skip
progress_option = click.option(
    "--progress/--no-progress", "shown", default=None,
    help="Show where a running step is, or only steps that have ended; by default a clock on a terminal, and a line a "
    "minute elsewhere (with --progress every ten seconds).",
)  # fmt: skip


class Command(click.Command):
    """A command whose bad arguments are told as its `--log` says, too."""

    def main(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """As click's, which knows text alone."""
        given = list(sys.argv[1:] if args is None else args)
        if "--log=json" not in given and ("--log", "json") not in pairwise(given):
            return super().main(args, *more, **options)
        try:
            return super().main(args, *more, **options | {"standalone_mode": False})
        except click.Abort:
            _end("interrupted; the output is as it was before", 130, "json", "interrupted")
        except click.ClickException as error:
            _end(error.format_message(), ConfigurationError.exit_code, "json", "ConfigurationError")


@contextmanager
def reporting_errors(debug: bool, log: events.Format = "text") -> Iterator[None]:
    """Turns what is raised inside into a line on stderr and an exit code (see schemas.errors).

    SIGTERM ends a command as Ctrl-C does, so that what it wrote is tidied up: schedulers send it and wait a while.
    """
    try:
        with _termination_raised():
            yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except _Terminated:
        _end("terminated; the output is as it was before", 128 + signal.SIGTERM, log, "terminated")
    except KeyboardInterrupt:
        _end("interrupted; the output is as it was before", 130, log, "interrupted")
    except Exception as error:  # noqa: BLE001 - the one place that turns whatever is left into a line and a code
        known = error if isinstance(error, ProjectError) else _explained(error)
        if debug:
            click.echo(redaction.text(traceback.format_exc()), err=True, nl=False)
        if known is None:
            first = str(error).strip().split("\n")[0]
            known = ProjectError(f"{type(error).__name__}: {first} (--debug shows where)")
        _end(str(known), known.exit_code, log, type(known).__name__)


def _end(message: str, code: int, log: events.Format, kind: str) -> NoReturn:
    if log == "json":
        click.echo(events.line("error", message, "error", kind=kind, exit_code=code), err=True)
    else:
        told = message if kind in ("terminated", "interrupted") else f"error: {message}"
        click.echo(redaction.text(told), err=True)
    sys.exit(code)


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
