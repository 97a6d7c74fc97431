"""Which kind of catalogue a job gets, before its items are read as a whole: by configuration, or by their size.

The size of items is that of a sample as Arrow holds them, times their number; about what they take encoded. Small files
are not even counted, so that `auto` costs nothing where it does not matter.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from pyspark.sql import DataFrame

from pipelines import engine, words
from pipelines.config import Config
from pipelines.config_rules import mapped_alone

SAMPLE = 1_000  # items
EXPANDED = 32  # no table is so much larger in memory than in its files
HEAP_SHARE = 6  # a JVM that hands items to the driver's Python holds them several times, beside Spark itself


@dataclass(frozen=True)
class Kept:
    """parts: of a partitioned catalogue; 0 for a mapped one. told: the choice in words. doubt: why it may fail."""

    parts: int
    told: str
    doubt: str = ""

    @property
    def kind(self) -> str:
        """mapped or partitioned."""
        return "partitioned" if self.parts else "mapped"


def chosen(config: Config, rows: DataFrame) -> Kept:
    """How a job's catalogue is kept. Unless they are small the items are counted.

    `auto` maps no more than the driver's JVM can hand over either, as that would end in its OutOfMemoryError; where the
    configuration leaves no choice that is said before the items are read.

    rows: of the item table.
    """
    wanted, most, limit = config.catalogue, config.catalogue.mapped_bytes, "catalogue.mapped_bytes"
    heap = engine.driver_heap(rows.sparkSession)
    if wanted.kind == "mapped" and heap is None:
        return Kept(0, "catalogue mapped")
    if heap is not None and (wanted.kind == "mapped" or heap // HEAP_SHARE < most):
        most, limit = heap // HEAP_SHARE, f"1/{HEAP_SHARE} of the driver's memory (--driver-memory)"
    if wanted.kind != "partitioned":
        files = file_bytes(rows)
        if files is not None and files * EXPANDED <= most:
            why = f" (auto: {words.size(files)} of files)" if wanted.kind == "auto" else ""
            return Kept(0, f"catalogue mapped{why}")
    size = item_bytes(rows)
    parts = max(1, -(-size // wanted.partition_bytes))
    told = f"about {words.size(size)}, {limit} is {words.size(most)}"
    doubt = ""
    if heap is not None and size > heap // HEAP_SHARE:
        doubt = (
            f"items take about {words.size(size)}, more than 1/{HEAP_SHARE} of the driver's memory; if Spark ends with "
            f"exit code 52, which is an OutOfMemoryError, give --driver-memory {-(-HEAP_SHARE * size >> 30)}g"
        )
    if wanted.kind == "partitioned":
        return Kept(parts, f"catalogue partitioned into about {parts:,}")
    if wanted.kind == "mapped":
        return Kept(0, "catalogue mapped", doubt)
    if size <= most:
        return Kept(0, f"catalogue mapped (auto: {told})")
    if needs := mapped_alone(config):
        return Kept(0, f"catalogue mapped (auto: {told}, but {needs[0]} needs a mapped one)", doubt)
    return Kept(parts, f"catalogue partitioned into about {parts:,} (auto: {told})")


def file_bytes(rows: DataFrame) -> int | None:
    """Bytes of the files that rows come from; None where that cannot be told from here."""
    found = [urlparse(name) for name in rows.inputFiles()]
    if not found or any(url.scheme not in ("", "file") for url in found):
        return None
    return sum(Path(unquote(url.path)).stat().st_size for url in found)


def item_bytes(rows: DataFrame) -> int:
    """About how many bytes rows take in memory."""
    sample = rows.limit(SAMPLE).toArrow()
    return int(sample.nbytes / max(sample.num_rows, 1) * rows.count())
