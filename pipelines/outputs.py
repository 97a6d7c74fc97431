"""Which hold a run takes of its output, and whether executors reach the folder that its tasks share.

A local output has that folder in itself. One on an object store has it on a disk, as catalogues are mapped: where
`output.work` says, else in the system's temporary folder, which only processes of one machine see.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from pipelines import engine
from pipelines.config import Output
from pipelines.object_publication import ObjectPublication
from pipelines.publication import Publication
from pipelines.sink import unwritable
from schemas import storage
from schemas.errors import ConfigurationError
from schemas.files import local_path
from schemas.remote import RemoteFolder

_TASKS = 16


def publication(output: Output, overwrite: bool, appending: bool = False) -> Publication:
    """The hold on an output, to be entered."""
    where = storage.folder(output.path)
    if isinstance(where, RemoteFolder):
        work = Path(tempfile.gettempdir()) if output.work is None else local_path(output.work)
        return ObjectPublication(where, overwrite, appending, output.abandoned_seconds, work)
    return Publication(output.path, overwrite, appending, output.abandoned_seconds)


def check_work(spark: SparkSession, output: Output) -> None:
    """Raises a ConfigurationError where executors do not see the folder that tasks share.

    Costs nothing for local outputs and on one machine, else a job of some small tasks. Executors that come later are
    not asked.
    """
    if not storage.is_remote(output.path) or engine.is_local(spark):
        return
    option = f"output.work: executors need a folder that they share with the driver while they write to {output.path}"
    if output.work is None:
        raise ConfigurationError(f"{option}; set it to one on a file system that all machines mount")
    work = local_path(output.work).absolute()
    try:
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=work, prefix="probe-") as probe:
            lacking = _without(spark, probe.name)
    except OSError as error:
        raise unwritable(work, error) from error
    if lacking:
        raise ConfigurationError(f"{option}, but {work} of the driver's is not there on {', '.join(lacking)}")


def _without(spark: SparkSession, path: str) -> list[str]:
    """Machines on which some task does not see a file."""

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import platform

        there = Path(path).exists()
        for batch in batches:
            names = [None if there else platform.node()] * batch.num_rows
            yield pa.RecordBatch.from_arrays([pa.array(names, pa.string())], ["machine"])

    rows = spark.range(0, _TASKS, 1, _TASKS).mapInArrow(look, "machine string").collect()
    return sorted({row.machine for row in rows if row.machine is not None})
