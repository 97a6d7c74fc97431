"""python -m pipelines.shipment: dist/dist.zip, what executors need of this project, for `spark-submit --py-files`.

A task is shipped by name: the worker that runs it imports `pipelines`, which a cluster has not installed. The same
sources give the same bytes (sorted, one fixed time, nothing compressed), so that zips can be compared and cached.
Third-party packages have compiled parts and no place in it: executors have them installed, `requirements` says which.
"""

import io
import shlex
import zipfile
from importlib import metadata
from pathlib import Path

import click

from pipelines.commands import reporting_errors
from schemas.errors import EnvironmentProblem
from schemas.files import write_atomically

ROOMS = ("pipelines", "samplers", "schemas")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
_MODE = 0o100644 << 16


@click.command()
@click.option("--output", default="dist/dist.zip", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(output: Path, debug: bool) -> None:
    """Write the zip that spark-submit ships to executors, and say what they must have installed."""
    with reporting_errors(debug):
        data = zipped(Path(__file__).resolve().parent.parent)
        write_atomically(output, data)
        click.echo(f"{output}: {len(data):,} bytes, for spark-submit --py-files {output}")
        click.echo(f"executors need Python 3.11, Spark's own, and: pip install {shlex.join(requirements())}")


def zipped(root: Path) -> bytes:
    """A zip of the modules of ROOMS below `root`; the same sources give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _TIME)
            entry.external_attr = _MODE
            archive.writestr(entry, path.read_bytes())
    return stream.getvalue()


def requirements() -> list[str]:
    """What pip must install on executors: the project's dependencies without any extra.

    Raises:
      EnvironmentProblem: the project is not installed, so nobody knows them.
    """
    try:
        told = metadata.requires("prebatch") or []
    except metadata.PackageNotFoundError as error:
        raise EnvironmentProblem("prebatch is not installed; `make setup` installs it into .venv") from error
    return sorted(one for one in told if "extra ==" not in one)


if __name__ == "__main__":
    main()
