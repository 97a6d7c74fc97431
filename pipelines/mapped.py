"""`catalogue: mapped`: the driver reads the items and makes one file of them, which every worker maps.

Right wherever the encoded items fit into the driver's memory and the page cache of each machine: some millions of items
with vectors, tens of millions without. All kinds of negatives are drawn from it. Cost: see pipelines/catalogue.py.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from pipelines import assembly, catalogue, frequencies, intake, mapped_files, parts, rejects
from pipelines.catalogue import Catalogue, CheckedItems
from pipelines.catalogues import ClickCounts, Figures
from pipelines.config import Config
from pipelines.inheritance import Inherited
from pipelines.kind import Kept
from pipelines.plan import Plan
from pipelines.publication import Publication
from pipelines.rejects import Used
from pipelines.sink import ShardWriter
from pipelines.split import SPLITS
from pipelines.tallies import Cells, decile_edges
from samplers import unique_tensorflow
from samplers.proposal import proposal
from samplers.same_attribute import Groups
from samplers.unique import unique_pools
from samplers.unique_clicks import unique_clicks
from schemas import codec, wire
from schemas.errors import DataError
from schemas.manifest import Shard, Split, StoredFile
from schemas.record import Field

ITEMS_A_STEP = 1 << 16


@dataclass(frozen=True)
class MappedItems:
    """The usable items, on the driver."""

    checked: CheckedItems
    config: Config
    kept: Kept
    before: Inherited | None = None

    @classmethod
    def of(
        cls, spark: SparkSession, config: Config, rows: DataFrame, kept: Kept, publication: Publication, used: Used,
        before: Inherited | None = None,
    ) -> "MappedItems":  # fmt: skip
        """Collects the item table's rows; rejected ones are stored, and an error where there are too many."""
        checked = catalogue.checked_items(rows.toArrow(), config.features, f"items ({config.items.path})")
        reasons = Counter(checked.rejected["reason"].to_pylist())
        # Without a rejected row nobody reads them, and Spark need not be told of them.
        rejected = spark.createDataFrame(checked.rejected, "reason string, row string") if reasons else rows.limit(0)
        rejects.account(used, "items", checked.read, reasons, rejected, publication)
        pq.write_table(checked.numbers, publication.work / "numbers.parquet")
        return cls(checked, config, kept, before)

    @property
    def read(self) -> int:
        """Rows of the item table."""
        return self.checked.read

    @property
    def usable(self) -> int:
        """Items."""
        return int(self.checked.table.num_rows)

    @property
    def key_type(self) -> str:
        """Spark's name of the type of the keys."""
        return "string" if pa.types.is_string(self.checked.table["key"].type) else "bigint"

    def store_keys(self, path: Path) -> None:
        """Writes the keys by number, for executors."""
        mapped_files.store(path, self.checked.numbers)

    def counted(self, clicks: DataFrame) -> ClickCounts:
        """Counts by item, and what they sum to."""
        return count_clicks(clicks, self.usable)[1]

    def catalogue(self, clicks: DataFrame, counts: ClickCounts, unit: str) -> "MappedCatalogue":
        """The finished catalogue; unit: of the clicks' times."""
        config = self.config
        items = self.checked.in_unit(unit, config.clicks.time_unit == "auto")
        built, vocabularies = catalogue.build(items, counts.by_number, config.features, self.before)
        built, facts = with_frequencies(built, clicks, config, unit)
        return MappedCatalogue(with_proposal(built, config), vocabularies, facts)


@dataclass(frozen=True)
class MappedCatalogue:
    """The catalogue on the driver, with what the manifest says of it."""

    items: Catalogue
    values: dict[str, list[str]]
    facts: dict[str, Any]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Item features."""
        return self.items.fields

    @property
    def limits(self) -> str:
        """A hash of when items can be had."""
        return self.items.limits

    @property
    def cells(self) -> Cells:
        """What draws are counted by."""
        return self.items.cells

    @property
    def groups(self) -> list[Groups]:
        """What same_attribute strategies draw from."""
        return self.items.groups

    @property
    def figures(self) -> Figures:
        """What the manifest's statistics say of the items."""
        counts = self.items.counts
        clicked, counted = int((counts > 0).sum()), int((self.items.frequencies > 0).sum())
        gone = 0 if self.items.gone is None else int(self.items.gone.sum())
        return Figures(len(self.items), clicked, counted, decile_edges(np.sort(counts)[::-1]), gone)

    def store(self, work: Path) -> tuple[Path, int]:
        """Writes the file that executors map."""
        path = work / "catalogue.arrow"
        self.items.store(path)
        return path, 0

    def vocabularies(self, publication: Publication) -> dict[str, StoredFile]:
        """vocabulary/<feature>.txt of each item feature."""
        return assembly.stored_vocabularies(publication, self.values)

    def item_split(self, plan: Plan) -> tuple[Split, int]:
        """Writes items/ as one shard."""
        writer = ShardWriter(plan.root, "items", f"00000-of-00001-{plan.run}", plan.compression)
        items, columns = self.items, plan.record.item_columns()
        for begin in range(0, len(items), ITEMS_A_STEP):
            rows = np.arange(begin, min(begin + ITEMS_A_STEP, len(items)))
            payloads = {
                "item.index": wire.int_fragments(rows),
                "item.count": wire.int_fragments(items.counts[rows]),
            }
            if items.gone is not None:
                payloads["item.gone"] = wire.int_fragments(items.gone[rows].astype(np.int64))
            if plan.record.frequency:
                payloads["item.frequency"] = wire.float_fragments(items.frequencies[rows].astype(np.float32))
            for key in ("key", "title"):
                texts = items.table[key].chunk(0).slice(begin, len(rows))
                payloads[f"item.{key}"] = wire.bytes_fragments(pc.fill_null(texts, ""))
            for field in items.fields:
                payloads[f"item.{field.name}"] = items.fragments(field).values.take(pa.array(rows))
            writer.write(codec.encode(columns, payloads))
        writer.close()
        return Split.of([Shard(writer.path, writer.bytes, writer.crc32c, writer.records)]), writer.digest


def count_clicks(clicks: DataFrame, items: int) -> tuple[npt.NDArray[np.int64], ClickCounts]:
    """([3, items by number] clicks of each split, and what they sum to); see `intake.by_item`."""
    found = intake.by_item(clicks).toArrow()
    counts = np.zeros((len(SPLITS), items), np.int64)
    for split, name in enumerate(SPLITS):
        counts[split, found["number"].to_numpy()] = found[name].to_numpy()
    train, validation, test = counts.sum(axis=1).tolist()
    hash_ = f"{sum(found['hash'].to_pylist()):x}"
    rows, first, last = (
        pc.sum(found["rows"]).as_py() or 0,
        pc.min(found["first"]).as_py(),
        pc.max(found["last"]).as_py(),
    )
    return counts, ClickCounts((train, validation, test), rows, first, last, hash_, counts[0])


def with_frequencies(
    counted: Catalogue, clicks: DataFrame, config: Config, unit: str
) -> tuple[Catalogue, dict[str, Any]]:
    """(the catalogue with what proposals count, what the manifest's `proposal` says of it)."""
    found = frequencies.counted(clicks, config.frequencies, unit, len(counted))
    if found is None:
        return counted, {}
    return counted.with_frequencies(found.values), {"frequencies": found.to_json()}


def with_proposal(counted: Catalogue, config: Config) -> Catalogue:
    """The catalogue with the configured proposal over its training frequencies."""
    wide = config.negatives.proposal.catalogue_wide
    drawn = proposal(wide, counted.frequencies, counted.counts, counted.ranks, counted.gone)
    counted = counted.with_groups(parts.groups_of(config, counted, counted.frequencies))
    count, q = config.negatives.count, drawn.table.probabilities
    try:
        if not config.unique:
            return counted.with_proposal(drawn)
        if config.unique == "tensorflow":
            return counted.with_proposal(drawn, unique_tensorflow.expected(q, count))
        if config.negatives.per == "click":
            return counted.with_proposal(drawn, unique_clicks(drawn.mass, drawn.one, count))
        return counted.with_proposal(drawn, unique_pools(q, count))
    except ValueError as error:
        raise DataError(
            f"negatives: {error} without replacement; lower negatives.count, give uniform a share of the proposal, "
            "or set negatives.unique: false"
        ) from error
