"""`catalogue: partitioned`: for catalogues that fit into no executor's memory and not into the driver's.

The driver's part of it: it tells tasks what to do with each part of the catalogue (pipelines/partitions.py) and adds up
what they say. It holds a few numbers a part, 4,096 cells of draws, and vocabularies of few values. One of many values
never comes here (pipelines/ranked_values.py), nor one of the item keys: an item's index in it is its item_index and one
more. Where items are drawn and looked up: pipelines/lookups.py. What it costs beyond a mapped one: pipelines/README.md.
"""

import itertools
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines import assembly, catalogue, encoding, intake, mapped_files, rejects
from pipelines.catalogues import ClickCounts, Figures
from pipelines.config import Config
from pipelines.kind import Kept
from pipelines.partitions import (
    Encoder,
    Partitions,
    blob_columns,
    each,
    partition,
    stored,
    whole,
    write_text,
    written_items,
)
from pipelines.plan import Plan
from pipelines.publication import Publication
from pipelines.ranked_values import WHOLE_NUMBER, Learner, Ranked
from pipelines.rejects import Used
from pipelines.sink import DIGEST_MODULUS
from pipelines.split import SPLITS
from pipelines.tallies import MOST_CELLS, Cells
from samplers import mass, mixture
from samplers.mass import ONE, Part, Whole
from samplers.proposal import weighed
from samplers.same_attribute import Groups
from schemas.features import Buckets, Vocabulary
from schemas.manifest import Shard, Split, StoredFile, escape
from schemas.record import Field

Ints = npt.NDArray[np.int64]

ROWS = 1 << 13  # items that a task hands to Spark at a time


@dataclass(frozen=True)
class PartitionedItems:
    """Usable items by key, in files of their own. numbers: [parts + 1] the number of each part's first item."""

    spark: SparkSession
    config: Config
    kept: Kept
    work: Path
    schema: T.StructType
    read: int
    numbers: Ints
    paths: tuple[str, ...]

    @classmethod
    def of(
        cls, spark: SparkSession, config: Config, rows: DataFrame, kept: Kept, publication: Publication, used: Used
    ) -> "PartitionedItems":
        """Sorts the rows of the item table into so many parts, about; rejected ones are stored.

        Raises:
          DataError: no usable item, or too many rejected.
        """
        where, work, features = f"items ({config.items.path})", publication.work, config.features

        def check(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            table = whole(batches)
            if table is None:
                return
            checked, name = catalogue.checked_part(table, features, where), uuid.uuid4().hex[:12]
            usable = stored(work / "items" / f"{name}.arrow", lambda path: mapped_files.store(path, checked.table))
            rejected = ""
            if checked.rejected.num_rows:
                rejected = stored(
                    work / "rejected" / f"{name}.parquet", lambda path: pq.write_table(checked.rejected, path)
                )
            told = {
                "part": partition(), "usable": usable, "rows": checked.table.num_rows, "rejected": rejected,
                "read": checked.read, "reasons": json.dumps(Counter(checked.rejected["reason"].to_pylist())),
            }  # fmt: skip
            yield pa.RecordBatch.from_pylist([told], _CHECKED)

        # Rows of one key meet in one part, whatever they hold.
        ddl = "part int, usable string, rows long, rejected string, read long, reasons string"
        parted = rows.repartitionByRange(kept.parts, "key").mapInArrow(check, ddl)
        told = sorted(parted.collect(), key=lambda row: row.part)
        read, reasons = sum(row.read for row in told), Counter[str]()
        for row in told:
            reasons.update(json.loads(row.reasons))
        rejected = [row.rejected for row in told if row.rejected]
        filled = [row for row in told if row.rows]
        if not filled:
            raise catalogue.no_usable_item(where, read)
        if rejected:
            rejects.account(used, "items", read, reasons, spark.read.parquet(*rejected), publication)
        else:
            rejects.account(used, "items", read, {}, rows, publication)
        numbers = np.cumsum([0, *(row.rows for row in filled)])
        items = cls(spark, config, kept, work, rows.schema, read, numbers, tuple(row.usable for row in filled))
        items._store_numbers()
        return items

    @property
    def usable(self) -> int:
        """Items."""
        return int(self.numbers[-1])

    @property
    def key_type(self) -> str:
        """Spark's name of the type of the keys."""
        return self.schema["key"].dataType.simpleString()

    def store_keys(self, path: Path) -> None:
        """Lists of ids cannot be told apart without all keys at hand, and are refused before."""
        raise ValueError(f"{path}: a partitioned catalogue has no file of all keys")

    def _store_numbers(self) -> None:
        """The keys by number, for clicks to be joined with."""
        paths, first, work = self.paths, self.numbers.tolist(), self.work

        def number(part: int) -> str:
            keys = mapped_files.mapped(paths[part]).select(["key"])
            numbered = keys.append_column("number", pa.array(np.arange(first[part], first[part + 1]), pa.int32()))
            name = work / "numbers.parquet" / f"part-{part:05d}.parquet"
            return stored(name, lambda path: pq.write_table(numbered, path))

        each(self.spark, len(paths), number)

    def counted(self, clicks: DataFrame) -> ClickCounts:
        """Counts by item, which stay in files, and what they sum to."""
        path = str(self.work / "counts.parquet")
        intake.by_item(clicks).write.parquet(path)
        counts = self.spark.read.parquet(path)
        hash_ = F.sum(F.col("hash").cast("decimal(38,0)"))
        total = counts.agg(*map(F.sum, (*SPLITS, "rows")), F.min("first"), F.max("last"), hash_).collect()[0]
        train, validation, test, rows = (int(total[n] or 0) for n in range(4))
        by_number = counts.select("number", "train")
        return ClickCounts((train, validation, test), rows, total[4], total[5], f"{int(total[6] or 0):x}", by_number)

    def catalogue(self, _clicks: DataFrame, counts: ClickCounts, _unit: str) -> "PartitionedCatalogue":
        """The finished catalogue."""
        return _Ranked.of(self, counts).catalogue()

    def with_counts(self, counts: ClickCounts) -> DataFrame:
        """The rows of all items with their number and count."""
        numbers, paths = self.numbers, self.paths
        schema = T.StructType([
            *self.schema.fields,
            T.StructField("number", T.LongType()),
            T.StructField("count", T.LongType()),
        ])  # fmt: skip

        def routed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                part = np.searchsorted(numbers[1:], batch["number"].to_numpy(), side="right")
                columns = [pa.array(part, pa.int64()), batch["number"].cast(pa.int64()), batch["train"]]
                yield pa.RecordBatch.from_arrays(columns, ["to", "number", "train"])

        def joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            told = whole(batches)
            if told is None:
                return
            for part in np.unique(told["to"].to_numpy()).tolist():
                table, first = mapped_files.mapped(paths[part]), int(numbers[part])
                own = told.filter(pc.and_(pc.equal(told["to"], part), pc.greater_equal(told["number"], 0)))
                count = np.zeros(table.num_rows, np.int64)
                count[own["number"].to_numpy() - first] = own["train"].to_numpy()
                table = table.append_column("number", pa.array(first + np.arange(len(count))))
                yield from table.append_column("count", pa.array(count)).to_batches(max_chunksize=ROWS)

        # A row for each part besides, so that one without any click comes too.
        parts = self.spark.range(len(paths)).select(
            F.col("id").alias("to"), F.lit(-1).cast("long").alias("number"), F.lit(0).cast("long").alias("train")
        )
        found = counts.by_number.mapInArrow(routed, "to long, number long, train long").unionByName(parts)
        rows: DataFrame = found.repartitionById(len(paths), F.col("to").cast("int")).mapInArrow(joined, schema)
        return rows


_CHECKED = pa.schema([
    ("part", pa.int32()), ("usable", pa.string()), ("rows", pa.int64()), ("rejected", pa.string()),
    ("read", pa.int64()), ("reasons", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class _Ranked:
    """Items by item_index, in files of their own. first: [parts + 1] the index of each part's first item."""

    items: PartitionedItems
    paths: tuple[str, ...]
    first: Ints
    clicked: int
    numeric: bool  # whether all keys of clicked items are whole numbers
    training: int

    @classmethod
    def of(cls, items: PartitionedItems, counts: ClickCounts) -> "_Ranked":
        """Sorts the items by falling count, then by number."""
        work = items.work

        def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            table = whole(batches)
            if table is None:
                return
            falling, number = table["falling"].to_numpy(), table["number"].to_numpy()
            table = table.take(pa.array(np.lexsort((number, falling)))).combine_chunks()
            name = f"{uuid.uuid4().hex[:12]}.arrow"
            path = stored(work / "ranked" / name, lambda path: mapped_files.store(path, table))
            clicked = table.filter(pc.greater(table["count"], 0))
            keys = encoding.texts(clicked["key"].combine_chunks())
            numeric = pc.all(pc.match_substring_regex(keys, WHOLE_NUMBER)).as_py()
            told = {
                "part": partition(), "path": path, "rows": table.num_rows, "clicked": clicked.num_rows,
                "numeric": numeric is not False,
            }  # fmt: skip
            yield pa.RecordBatch.from_pylist([told], _RANKED)

        rows = items.with_counts(counts).withColumn("falling", -F.col("count"))
        ranked = rows.repartitionByRange(len(items.paths), "falling", "number").mapInArrow(
            rank, "part int, path string, rows long, clicked long, numeric boolean"
        )
        told = sorted(ranked.collect(), key=lambda row: row.part)
        return cls(
            items, tuple(row.path for row in told), np.cumsum([0, *(row.rows for row in told)]),
            sum(row.clicked for row in told), all(row.numeric for row in told), counts.totals[0],
        )  # fmt: skip

    def catalogue(self) -> "PartitionedCatalogue":
        """The items encoded, with their masses."""
        config, paths, first = self.items.config, self.paths, self.first
        fields, values, by_rank = self._resolved()
        components, sums = config.negatives.proposal.catalogue_wide, self._sums()
        whole_, begin = self._masses(sums)
        names = blob_columns(fields)
        own = {name for field in fields if field.name in config.history.features for name in blob_columns([field])}
        few = {name: found for name, found in values.items() if not isinstance(found, Ranked)}
        path = ""
        if few:
            path = str(self.items.work / "item_vocabularies.arrow")
            lists = pa.large_list(pa.large_string())
            mapped_files.store(Path(path), pa.table({name: pa.array([found], lists) for name, found in few.items()}))
        many = tuple((name, found.indices) for name, found in values.items() if isinstance(found, Ranked))
        history = tuple(place for place, name in enumerate(names) if name in own)
        encoder = Encoder(self.items.work, fields, path, by_rank, history, many)
        items, training, before = int(first[-1]), self.training, self._counts_before()

        def encode(part: int) -> dict[str, Any]:
            table = mapped_files.mapped(paths[part])
            count = table["count"].to_numpy()
            floored = mass.floored(mixture.weights(weighed(components, count, first=int(first[part])), sums))
            masses = whole_.completed(floored, part)
            end = begin[part] + np.cumsum(masses)
            cell = np.arange(first[part], first[part + 1])
            if items > MOST_CELLS:
                cell = np.minimum((end / ONE * MOST_CELLS).astype(np.int64), MOST_CELLS - 1)
            cells, place = np.unique(cell, return_index=True)
            # Deciles of the training clicks, as far as they end here.
            total, tenths = before[part] + np.cumsum(count), np.arange(1, 10) / 10 * training
            here = np.flatnonzero((tenths > before[part]) & (tenths <= total[-1]))
            edges = first[part] + np.searchsorted(total, tenths[here], side="left") + 1
            return {
                "path": encoder.store(part, table, int(first[part]), begin[part], masses),
                "cells": cells.tolist(), "cell_first": (first[part] + place).tolist(),
                "cell_mass": np.add.reduceat(masses, place).tolist(),
                "deciles": dict(zip(here.tolist(), edges.tolist(), strict=True)),
            }  # fmt: skip

        told = each(self.items.spark, len(paths), encode)
        cells: dict[int, tuple[int, int]] = {}
        for part in told:
            for cell, at, mass_ in zip(part["cells"], part["cell_first"], part["cell_mass"], strict=True):
                known = cells.get(cell, (at, 0))
                cells[cell] = (known[0], known[1] + mass_)
        edges = np.full(11, items)
        edges[0] = 0
        for part in told:
            for decile, edge in part["deciles"].items():
                edges[int(decile) + 1] = min(edge, items)
        counted = Cells(
            np.zeros(0, np.int64),
            np.array([cells[cell][1] for cell in sorted(cells)]) / ONE,
            np.array([*(cells[cell][0] for cell in sorted(cells)), items]),
        )
        partitions = Partitions(
            first, np.array(begin), counted, tuple(part["path"] for part in told),
            str(self.items.work / "places.parquet"), history,
        )  # fmt: skip
        figures = Figures(items, self.clicked, self.clicked, edges)
        return PartitionedCatalogue(self.items, fields, partitions, figures, values, by_rank, self.paths)

    def _each(self, task: Callable[[Ints, int, int], Any]) -> list[Any]:
        """What a task says of the counts of each part and its first index."""
        paths, first = self.paths, self.first.tolist()

        def counted(part: int) -> Any:
            return task(mapped_files.mapped(paths[part])["count"].to_numpy(), first[part], part)

        return each(self.items.spark, len(paths), counted)

    def _counts_before(self) -> list[int]:
        sums = self._each(lambda count, _first, _part: int(count.sum()))
        return [0, *itertools.accumulate(sums)]

    def _sums(self) -> list[Fraction]:
        """The exact sum of each component's weights."""
        components = self.items.config.negatives.proposal.catalogue_wide

        def sums(count: Ints, first: int, _part: int) -> list[str]:
            return [str(mass.exact_sum(weights)) for _, weights in weighed(components, count, first=first)]

        return mass.added([list(map(Fraction, told)) for told in self._each(sums)])

    def _masses(self, sums: list[Fraction]) -> tuple[Whole, list[int]]:
        """(what completes each part's masses, where each part begins)."""
        components = self.items.config.negatives.proposal.catalogue_wide

        def floored(count: Ints, first: int, _part: int) -> list[int]:
            part = Part.of(mass.floored(mixture.weights(weighed(components, count, first=first), sums)))
            return [part.total, part.drawable, part.largest]

        whole_ = Whole(tuple(Part(*told) for told in self._each(floored)))
        return whole_, whole_.begins()

    def _resolved(self) -> tuple[tuple[Field, ...], dict[str, list[str] | Ranked], tuple[tuple[str, int], ...]]:
        """(fields, vocabularies by feature, those that follow the item_index and their sizes)."""
        features, key = self.items.config.features.item, self.items.config.items.key
        learner = Learner(self.items.spark, self.items.work, self.paths)
        values: dict[str, list[str] | Ranked] = {}
        fields, by_rank = [], []
        for name, spec in features.items():
            boundaries, size = spec.boundaries if isinstance(spec, Buckets) else None, 0
            if isinstance(spec, Vocabulary) and self._follows_rank(name, spec, key):
                size = 1 + self._often(spec)
                by_rank.append((name, size))
            elif isinstance(spec, Vocabulary):
                values[name] = found = learner.vocabulary(name, spec)
                size = found.size if isinstance(found, Ranked) else len(found)
            elif isinstance(spec, Buckets) and spec.quantiles is not None:
                boundaries = learner.quantiles(name, spec.quantiles)
            fields.append(encoding.resolved(name, spec, size, boundaries))
        return tuple(fields), values, tuple(by_rank)

    def _follows_rank(self, name: str, spec: Vocabulary, key: str) -> bool:
        """Whether values stand in the vocabulary as items do by their index: the item keys, in their own order."""
        text = isinstance(self.items.schema["key"].dataType, T.StringType)
        return (spec.column or name) == key and spec.shape == "scalar" and not (text and self.numeric)

    def _often(self, spec: Vocabulary) -> int:
        """Items with enough training clicks for the vocabulary, or as many as it holds."""
        least = spec.min_count
        found: int = sum(self._each(lambda count, _first, _part: int((count >= least).sum())))
        return found if spec.max_size is None else min(found, spec.max_size)


_RANKED = pa.schema([
    ("part", pa.int32()), ("path", pa.string()), ("rows", pa.int64()), ("clicked", pa.int64()), ("numeric", pa.bool_()),
])  # fmt: skip


@dataclass(frozen=True)
class PartitionedCatalogue:
    """The finished catalogue, as the driver sees it. ranked: files of the raw items by index."""

    items: PartitionedItems
    fields: tuple[Field, ...]
    partitions: Partitions
    figures: Figures
    values: dict[str, list[str] | Ranked]
    by_rank: tuple[tuple[str, int], ...]
    ranked: tuple[str, ...]

    @property
    def limits(self) -> str:
        """A hash of no limits: items that come and go are refused."""
        return catalogue.hash_of_limits([])

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing: frequencies other than training clicks are refused."""
        return {}

    @property
    def cells(self) -> Cells:
        """What draws are counted by."""
        return self.partitions.cells

    @property
    def groups(self) -> list[Groups]:
        """None."""
        return []

    def store(self, work: Path) -> tuple[Path, int]:
        """Writes what tasks need to know of the parts."""
        path = work / "partitions.json"
        self.partitions.store(path)
        return path, len(self.partitions.paths)

    def vocabularies(self, publication: Publication) -> dict[str, StoredFile]:
        """vocabulary/<feature>.txt of each item feature; those of keys are put together from the parts' own lines."""
        few = {name: found for name, found in self.values.items() if not isinstance(found, Ranked)}
        files = assembly.stored_vocabularies(publication, few)
        start = f"{escape(encoding.OUT_OF_VOCABULARY)}\n".encode()
        for name, found in self.values.items():
            if isinstance(found, Ranked):
                files[name] = publication.stage_files(f"vocabulary/{name}.txt", start, found.lines)
        first, ranked, work = self.partitions.first.tolist(), self.ranked, self.items.work
        for name, size in self.by_rank:

            def lines(part: int, name: str = name, size: int = size) -> str:
                keys = encoding.texts(mapped_files.mapped(ranked[part])["key"].chunk(0))
                text = "".join(f"{escape(key)}\n" for key in keys.slice(0, max(0, size - 1 - first[part])).to_pylist())
                path = work / "vocabulary" / f"{name}-{part:05d}.txt"
                return stored(path, lambda path: write_text(path, text))

            files[name] = publication.stage_files(
                f"vocabulary/{name}.txt", start, each(self.items.spark, len(ranked), lines)
            )
        return {field.name: files[field.name] for field in self.fields if field.name in files}

    def item_split(self, plan: Plan) -> tuple[Split, int]:
        """Writes items/, one shard a part."""
        partitions = self.partitions
        told = each(self.items.spark, plan.partitions, lambda part: written_items(plan, partitions, part))
        shards = [Shard(row["path"], row["bytes"], row["crc32c"], row["records"]) for row in told]
        return Split.of(shards), sum(int(row["digest"], 16) for row in told) % DIGEST_MODULUS
