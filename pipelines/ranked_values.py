"""Vocabularies and quantiles of a partitioned catalogue's features, however many distinct values these have.

Few values (`COLLECTED`) come to the driver and go back to every task as one mapped file, as those of a mapped catalogue
do. More stay where they are: they are sorted by falling weight in ranges, so that a value's index is its place behind
the ranges before it; items get their indices by a join, and the lines of the vocabulary are written range by range.
Cost of the latter: a sort of the values and a join of all items' values with them.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import encoding, mapped_files
from pipelines.partitions import each, partition, stored, whole, write_text
from schemas.errors import DataError
from schemas.features import Vocabulary
from schemas.manifest import escape

Ints = npt.NDArray[np.int64]

COLLECTED = 1 << 18  # values of a vocabulary that the driver and each task may hold
WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"  # what `encoding.vocabulary` sorts as numbers, where all values are such


@dataclass(frozen=True)
class Ranked:
    """A vocabulary that no process holds. size: with the placeholder. lines: files that make up its text.

    indices: by part of the catalogue, a file with the index of each value and its place among the part's values.
    """

    size: int
    lines: tuple[str, ...]
    indices: tuple[str, ...]


@dataclass(frozen=True)
class Learner:
    """Learns features from raw items: `paths` of Arrow files with their columns and `count`, one a part."""

    spark: SparkSession
    work: Path
    paths: tuple[str, ...]

    @property
    def _parts(self) -> DataFrame:
        return self.spark.range(0, len(self.paths), 1, len(self.paths))

    def vocabulary(self, name: str, spec: Vocabulary) -> list[str] | Ranked:
        """The values by index, or where they lie."""
        paths = self.paths

        def weigh(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for part in batch["id"].to_pylist():
                    table = mapped_files.mapped(paths[part])
                    found = encoding.value_weights(spec.shape, table[name].chunk(0), table["count"].to_numpy())
                    columns = [found["value"].cast(pa.string()), found["weight"]]
                    yield from pa.table(columns, ["value", "weight"]).combine_chunks().to_batches()

        rows = self._parts.mapInArrow(weigh, "value string, weight long")
        folder = str(self.work / f"values-{name}.parquet")
        rows.groupBy("value").agg(F.sum("weight").alias("weight")).write.parquet(folder)
        weights = self.spark.read.parquet(folder)
        if weights.count() <= COLLECTED:
            return encoding.vocabulary(spec, weights.toArrow())
        return self._ranked(name, spec, weights.where(F.col("weight") >= spec.min_count))

    def _ranked(self, name: str, spec: Vocabulary, weights: DataFrame) -> Ranked:
        folder = self.work / f"ranked-{name}"
        numeric = weights.agg(F.min(F.col("value").rlike(WHOLE_NUMBER))).collect()[0][0] is not False
        order = F.col("value").try_cast("decimal(38,0)") if numeric else F.col("value")
        rows = weights.select("value", (-F.col("weight")).alias("falling"), order.alias("order"))
        if rows.where("order is null").limit(1).count():
            raise DataError(f"features.item.{name}: whole numbers of more than 38 digits cannot be ranked")

        def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            table = whole(batches)
            if table is None:
                return
            found = table.sort_by([("falling", "ascending"), ("order", "ascending")]).select(["value"])
            number = partition()
            path = stored(folder / f"{number:05d}.arrow", lambda path: mapped_files.store(path, found.combine_chunks()))
            yield pa.RecordBatch.from_pydict({"part": pa.array([number], pa.int32()), "path": [path],
                                              "rows": [found.num_rows]})  # fmt: skip

        ordered = rows.repartitionByRange(len(self.paths), "falling", "order")
        told = sorted(ordered.mapInArrow(rank, "part int, path string, rows long").collect(), key=lambda row: row.part)
        ranges, first = [row.path for row in told], np.cumsum([1, *(row.rows for row in told)]).tolist()
        size = first[-1] if spec.max_size is None else min(first[-1], 1 + spec.max_size)

        def number(part: int) -> str:
            values = mapped_files.mapped(ranges[part])["value"].combine_chunks()
            values = values.slice(0, max(0, size - first[part]))
            table = pa.table({"value": values, "index": pa.array(first[part] + np.arange(len(values)))})
            stored(folder / "indices" / f"part-{part:05d}.parquet", lambda path: pq.write_table(table, path))
            text = "".join(f"{escape(value)}\n" for value in values.to_pylist())
            return stored(folder / "lines" / f"{part:05d}.txt", lambda path: write_text(path, text))

        lines = each(self.spark, len(ranges), number)
        known = self.spark.read.parquet(str(folder / "indices"))
        return Ranked(size, tuple(lines), self._looked_up(name, spec, known))

    def _looked_up(self, name: str, spec: Vocabulary, known: DataFrame) -> tuple[str, ...]:
        """Files of the indices of all items' values, by part."""
        paths, folder = self.paths, self.work / f"indices-{name}"

        def asked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for part in batch["id"].to_pylist():
                    values, place = flat_values(spec, mapped_files.mapped(paths[part])[name].chunk(0))
                    # One row more, so that a part without any value comes too.
                    columns = [
                        pa.array(np.full(len(place) + 1, part, np.int32)), pa.array(np.append(place, -1)),
                        pa.concat_arrays([encoding.texts(values).cast(pa.string()), pa.nulls(1, pa.string())]),
                    ]  # fmt: skip
                    yield pa.RecordBatch.from_arrays(columns, ["part", "place", "value"])

        def keep(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            table = whole(batches)
            if table is None:
                return
            for part in np.unique(table["part"].to_numpy()).tolist():
                own = table.filter(pc.and_(pc.equal(table["part"], part), pc.is_valid(table["index"])))
                found = own.select(["place", "index"]).combine_chunks()
                path = stored(folder / f"{part:05d}.arrow", functools.partial(mapped_files.store, table=found))
                yield pa.RecordBatch.from_pydict({"part": pa.array([part], pa.int32()), "path": [path]})

        rows = self._parts.mapInArrow(asked, "part int, place long, value string").join(
            known.hint("shuffle_merge"), "value", "left"
        )
        told = rows.select("part", "place", "index").repartitionById(len(paths), "part")
        kept = told.mapInArrow(keep, "part int, path string").collect()
        return tuple(row.path for row in sorted(kept, key=lambda row: row.part))

    def quantiles(self, name: str, quantiles: int) -> list[float]:
        """Boundaries that part the values of clicked items into so many intervals alike."""
        paths, folder = self.paths, self.work / f"numbers-{name}"

        def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for part in batch["id"].to_pylist():
                    table = mapped_files.mapped(paths[part])
                    numbers = encoding.numbers(table[name].chunk(0))[table["count"].to_numpy() > 0]
                    distinct, times = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
                    yield pa.RecordBatch.from_arrays([pa.array(distinct), pa.array(times)], ["value", "times"])

        def sort(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            table = whole(batches)
            if table is None:
                return
            found, number = table.sort_by("value").combine_chunks(), partition()
            path = stored(folder / f"{number:05d}.arrow", lambda path: mapped_files.store(path, found))
            yield pa.RecordBatch.from_pydict({"part": pa.array([number], pa.int32()), "path": [path],
                                              "rows": [pc.sum(found["times"]).as_py()]})  # fmt: skip

        rows = self._parts.mapInArrow(count, "value double, times long").groupBy("value")
        ordered = rows.agg(F.sum("times").alias("times")).repartitionByRange(len(paths), "value")
        told = sorted(ordered.mapInArrow(sort, "part int, path string, rows long").collect(), key=lambda row: row.part)
        if not told:
            return []
        ranges, before = [row.path for row in told], np.cumsum([0, *(row.rows for row in told)])
        wanted = encoding.places_of_quantiles(int(before[-1]), quantiles)

        def pick(part: int) -> list[tuple[int, float]]:
            table = mapped_files.mapped(ranges[part])
            behind = before[part] + np.cumsum(table["times"].to_numpy())
            here = wanted.needed[(wanted.needed >= before[part]) & (wanted.needed < before[part + 1])]
            values = table["value"].to_numpy()[np.searchsorted(behind, here, side="right")]
            return list(zip(here.tolist(), values.tolist(), strict=True))

        picked = dict(pair for found in each(self.spark, len(ranges), pick) for pair in found)
        return list(wanted.between(np.array([picked[place] for place in wanted.needed.tolist()])))


def flat_values(spec: Vocabulary, column: pa.Array) -> tuple[pa.Array, Ints]:
    """(all values of a column, their places among these): rows of a scalar feature, positions in all lists."""
    if spec.shape == "list":
        values, _ = encoding.flat_lists(column)
        return values, np.arange(len(values))
    rows = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    return column.take(pa.array(rows)), rows
