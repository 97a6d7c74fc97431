"""Rejected rows: counted by reason, kept as Parquet with what they held, and a limit to how many there may be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from pipelines.publication import Publication
from pipelines.sink import unwritable
from schemas import storage
from schemas.errors import DataError
from schemas.manifest import StoredFile

SCHEMA = pa.schema([("input", pa.string()), ("reason", pa.string()), ("row", pa.string())])
_FILE = "path string, bytes long, crc32c long"


@dataclass
class Used:
    """What became of the input rows: read = used + rejected, by input and reason. `allowed`: the share that may go.

    given: counts of the lists of negatives beside the clicks, see `given.counted`.
    hashes: by input, what its usable rows were, whatever their order.
    """

    allowed: float
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    files: list[StoredFile] = field(default_factory=list)
    unmatched_items: int = 0
    unmatched_users: int = 0
    time_unit: str = "seconds"
    given: dict[str, dict[str, int]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


def account(
    used: Used, name: str, read: int, reasons: dict[str, int], rejected: DataFrame, publication: Publication
) -> None:
    """Counts an input's rows, and stores those that are rejected; an error where there are too many."""
    count = sum(reasons.values())
    used.rows[name] = {"read": read, "used": read - count, "rejected": count}
    used.rejected |= {f"{name}.{reason}": rows for reason, rows in sorted(reasons.items())}
    check_share(name, read, reasons, used.allowed)
    if reasons:
        used.files += store(rejected, name, str(publication.folder), publication.run)


def store(rows: DataFrame, name: str, root: str, run: str) -> list[StoredFile]:
    """Writes `reason`, `row` of an input's rejected rows as rejected/part-*.parquet, one file a task that has any.

    A task holds its file's bytes until it is whole.
    """

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import uuid

        path = f"rejected/part-{name}-{run}-{uuid.uuid4().hex[:8]}.parquet"
        writer: pq.ParquetWriter | None = None
        held, folder = pa.BufferOutputStream(), storage.folder(root)
        try:
            for batch in batches:
                if batch.num_rows:
                    if writer is None:
                        writer = pq.ParquetWriter(held, SCHEMA)
                    inputs = pa.array([name] * batch.num_rows, pa.string())
                    columns = [inputs, batch["reason"].cast(pa.string()), batch["row"].cast(pa.string())]
                    writer.write_table(pa.table(columns, schema=SCHEMA))
            if writer is None:
                return
            writer.close()
            data = held.getvalue().to_pybytes()
            file = folder.writer(path)  # under a name of its own, so that what a killed task leaves is known as ours
            file.write(data)
            file.close()
        except OSError as error:
            raise unwritable(folder.location(path), error) from error
        columns = [pa.array([path]), pa.array([len(data)]), pa.array([google_crc32c.value(data)])]
        yield pa.RecordBatch.from_arrays(columns, ["path", "bytes", "crc32c"])

    files = rows.select("reason", "row").mapInArrow(write, _FILE).collect()
    return [StoredFile(file.path, file.bytes, file.crc32c) for file in files]


def check_share(name: str, read: int, rejected: dict[str, int], allowed: float) -> None:
    """Raises a DataError where more of an input was rejected than `limits.rejected_share` allows."""
    total = sum(rejected.values())
    if read and total > allowed * read:
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda pair: -pair[1])
        )
        raise DataError(
            f"{name}: {total} of {read} rows ({total / read:.2%}) cannot be used, {allowed:.2%} are allowed "
            f"(limits.rejected_share); by reason: {reasons}"
        )
