"""How a command ends: one line on stderr and the right exit code, a traceback only when asked for."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from schemas.errors import ProjectError


@contextmanager
def reporting_errors(debug: bool) -> Iterator[None]:
    """Turns what is raised inside into a line on stderr and an exit code (see schemas.errors)."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
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


def _explained(error: Exception) -> ProjectError | None:
    if "pyspark" not in sys.modules:
        return None
    from pipelines.session import explained

    return explained(error)
