"""python -m pipelines.shipment: dist/dist.zip, what executors need of this project, for `spark-submit --py-files`.

A task is shipped by name: the worker that runs it imports `pipelines`, which a cluster has not installed. The same
sources give the same bytes (sorted, one fixed time, nothing compressed), so that zips can be compared and cached.
Third-party packages have compiled parts and no place in it: executors have them installed, `requirements` says which,
or get them with `--third-party FILE`, an archive of these packages as they are installed here, some 100 MB. Its
compiled parts want executors with the same Python, processor and C library as here.
"""

import gzip
import io
import re
import shlex
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from pipelines.commands import reporting_errors
from schemas.errors import ConfigurationError, EnvironmentProblem
from schemas.files import write_atomically

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOMS = ("pipelines", "samplers", "schemas")
SPARKS_OWN = frozenset({"pyspark", "py4j"})  # of the cluster's version, wherever it starts a Python
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
_MODE = 0o100644 << 16
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@click.command()
@click.option("--output", default="dist/dist.zip", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--third-party", "archive", type=click.Path(dir_okay=False, path_type=Path),
    help="Also write an archive (.tar.gz) of the packages that executors need, for spark-submit --archives.",
)  # fmt: skip
@click.option("--driver", is_flag=True, help="Put in what a driver needs, too, for clusters that run it themselves.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(output: Path, archive: Path | None, driver: bool, debug: bool) -> None:
    """Write the zip that spark-submit ships to executors, and say what they must have installed."""
    with reporting_errors(debug):
        if driver and archive is None:
            raise ConfigurationError("--driver says what goes into --third-party FILE; give that, too")
        data = zipped(Path(__file__).resolve().parent.parent)
        write_atomically(output, data)
        click.echo(f"{output}: {len(data):,} bytes, for spark-submit --py-files {output}")
        click.echo(f"executors need Python 3.11, Spark's own, and: pip install {shlex.join(requirements())}")
        if archive is not None:
            wanted = distributions(requirements(*(["spark"] if driver else [])))
            size = store(archive, wanted - SPARKS_OWN)
            click.echo(f"{archive}: {size:,} bytes, these packages: {', '.join(sorted(wanted - SPARKS_OWN))}")


def zipped(root: Path) -> bytes:
    """A zip of the modules of ROOMS below `root`; the same sources give the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _TIME)
            entry.external_attr = _MODE
            archive.writestr(entry, path.read_bytes())
    return stream.getvalue()


def ship(spark: "SparkSession") -> None:
    """Sends a Spark Connect server this project's modules, for this session alone; there is no --py-files to do it."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dist.zip"
        path.write_bytes(root.read_bytes() if root.is_file() else zipped(root))  # a file: run out of such a zip
        spark.addArtifacts(str(path), pyfile=True)


def requirements(*extras: str) -> list[str]:
    """What pip must install on executors: the project's dependencies without any extra, or with these.

    Raises:
      EnvironmentProblem: the project is not installed, so nobody knows them.
    """
    try:
        told = metadata.requires("prebatch") or []
    except metadata.PackageNotFoundError as error:
        raise EnvironmentProblem("prebatch is not installed; `make setup` installs it into .venv") from error
    wanted = (one for one in told if "extra ==" not in one or any(f'extra == "{extra}"' in one for extra in extras))
    return sorted(wanted)


def distributions(wanted: Iterable[str]) -> frozenset[str]:
    """Names of the installed packages that satisfy requirements, and of all that those need themselves.

    What is not installed here is for other systems or Pythons, as this environment has all that it needs.
    """
    names: set[str] = set()
    left = list(wanted)
    while left:
        found = _NAME.match(left.pop())
        name = re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
        try:
            needed = metadata.requires(name) if name and name not in names else None
        except metadata.PackageNotFoundError:
            continue
        names.add(name)
        left += [one for one in needed or () if "extra ==" not in one]
    return frozenset(names - {""})


def store(path: Path, names: Iterable[str]) -> int:
    """Writes an archive of installed packages, to be unpacked into a folder on PYTHONPATH; returns its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            partial.open("wb") as raw,
            gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for name, source in sorted(_files(names)):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = source.stat().st_size, 0o644
                with source.open("rb") as stream:
                    archive.addfile(entry, stream)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def _files(names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """(its place, where it is) of every file of some packages but for scripts and caches."""
    for name in names:
        for file in metadata.distribution(name).files or ():
            place = PurePosixPath(file)
            if ".." not in place.parts and not place.is_absolute() and place.suffix != ".pyc":
                yield place.as_posix(), Path(str(file.locate()))


if __name__ == "__main__":
    main()
