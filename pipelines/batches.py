"""How many rows Spark hands to Python at a time: as many as are worth an Arrow batch, and no more than a task can hold.

Spark can go by rows and by bytes. For the bytes it adds up a whole batch after each row, which takes it as long as the
row itself; where rows are known to be small, the number of rows is limit enough.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import types as T

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.plan import Plan
    from schemas.record import RecordSpec

ROWS, BYTES = 20_000, 16 << 20
BUNDLE_BYTES = 16 << 10  # of the clicks that cross a shuffle as one row
_ROWS, _BYTES = "spark.sql.execution.arrow.maxRecordsPerBatch", "spark.sql.execution.arrow.maxBytesPerBatch"
LIMITS = {_ROWS: str(ROWS), _BYTES: str(BYTES)}  # of a session
_ANY = str((1 << 31) - 1)  # bytes that Spark takes for no limit
_PLAIN = 64  # bytes that a number or a text takes; a batch of longer texts is larger by so much
_NUMBERS = 12  # columns of a click that is drawn for, beside its lists


def row_bytes(plan: "Plan", clicks: "DataFrame") -> int | None:
    """Bytes of a click on its way through the tasks that draw and write; None where only the data tell.

    Which they do where what a user knows travels with a click, or lists that came with it.
    """
    record = plan.record
    known = plan.held_out or plan.in_batch > 0 or record.per == "block" or plan.partitions > 0
    lists = any(isinstance(field.dataType, T.ArrayType | T.BinaryType) for field in clicks.schema.fields)
    if known or lists or any(field.width is None for field in record.user):
        return None
    return _PLAIN * (_NUMBERS + len(clicks.columns)) + list_bytes(record)


def list_bytes(record: "RecordSpec") -> int:
    """Bytes of what a click carries beside single values: its candidates, its history, its user's features."""
    candidates = 2 * (1 + record.negatives) if record.per == "click" else 0  # and a log_q of each
    return 4 * (candidates + record.history_length) + 10 * sum(field.width or 1 for field in record.user)


@contextmanager
def of_rows(spark: "SparkSession", row_bytes: int | None) -> Iterator[None]:
    """Inside, batches have as many rows as clicks of so many bytes, or bundles, may be; None: the session's limits."""
    if row_bytes is None:
        yield
        return
    spark.conf.set(_ROWS, str(max(1, BYTES // max(row_bytes, BUNDLE_BYTES))))
    spark.conf.set(_BYTES, _ANY)
    try:
        yield
    finally:
        for key, value in LIMITS.items():
            spark.conf.set(key, value)
