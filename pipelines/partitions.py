"""A catalogue in parts: runs of item_index, each one Arrow file that only the tasks which need it map.

    rows by key, checked -> numbered -> with training counts, sorted by these -> weighed -> encoded

Each arrow is a task for each part; the driver gets a few numbers a part, adds them up, and tells the next task what
came before its part. Files have fixed names and are renamed into place, so that a task that runs twice does no harm.
Cost: every item is sorted by key once and by count once; a task holds a part, raw and encoded, some six times its size.
"""

import functools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipelines import encoding, mapped_files
from pipelines.encoding import Fragments
from pipelines.plan import Plan
from pipelines.sink import ShardWriter
from pipelines.tallies import Cells
from schemas import codec, wire
from schemas.record import Field

Ints = npt.NDArray[np.int64]

PLACES = pa.schema([
    ("number", pa.int64()), ("item_index", pa.int64()), ("item_begin", pa.int64()), ("item_mass", pa.int64()),
])  # fmt: skip
ITEMS_A_STEP = 1 << 14


@dataclass(frozen=True)
class Partitions:
    """first, begin: [parts + 1] the item_index and the position where each begins. paths: of each part's file.

    places: where the items' places lie by number. history_columns: which of `blob_columns` histories have.
    """

    first: Ints
    begin: Ints
    cells: Cells
    paths: tuple[str, ...]
    places: str
    history_columns: tuple[int, ...]

    def of_references(self, reference: Ints) -> Ints:
        """The part that has each: by an item_index, or below 0 by a position."""
        placed = reference < 0
        part = np.empty(len(reference), np.int64)
        part[~placed] = np.searchsorted(self.first[1:], reference[~placed], side="right")
        part[placed] = np.searchsorted(self.begin[1:], -1 - reference[placed], side="right")
        return part

    def store(self, path: Path) -> None:
        """Writes what tasks read again; some bytes a part and a cell."""
        document = {
            "first": self.first.tolist(), "begin": self.begin.tolist(), "cells": self.cells.first.tolist(),
            "probability": self.cells.probability.tolist(), "paths": self.paths, "places": self.places,
            "history_columns": self.history_columns,
        }  # fmt: skip
        path.write_text(json.dumps(document), encoding="utf-8")


@functools.lru_cache(maxsize=1)
def read_partitions(path: str) -> Partitions:
    """What `Partitions.store` wrote."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    nothing = np.zeros(0, np.int64)
    cells = Cells(nothing, np.array(found["probability"]), np.array(found["cells"], np.int64))
    return Partitions(
        np.array(found["first"], np.int64), np.array(found["begin"], np.int64), cells, tuple(found["paths"]),
        found["places"], tuple(found["history_columns"]),
    )  # fmt: skip


def blob_columns(fields: Iterable[Field]) -> list[str]:
    """What an item's encoded features are made of, in their order: values, and lengths of lists."""
    names = []
    for field in fields:
        names.append(field.name)
        if field.width is None:
            names.append(f"{field.name}.lengths")
    return names


def each(spark: SparkSession, parts: int, task: Callable[[int], Any]) -> list[Any]:
    """What a task says of each part, in their order: plain values that JSON knows."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                yield pa.RecordBatch.from_pydict({"number": [number], "told": [json.dumps(task(number))]})

    rows = spark.range(0, parts, 1, parts).mapInArrow(run, "number long, told string").collect()
    return [json.loads(row.told) for row in sorted(rows, key=lambda row: row.number)]


def whole(batches: Iterable[pa.RecordBatch]) -> pa.Table | None:
    """A partition as one table; None for an empty one."""
    held = [batch for batch in batches if batch.num_rows]
    return pa.Table.from_batches(held).combine_chunks() if held else None


def stored(path: Path, write: Callable[[Path], None]) -> str:
    """A file under its name, which it gets when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # Spark reads no name with a dot in front
    write(staged)
    staged.replace(path)
    return str(path)


def write_text(path: Path, text: str) -> None:
    """Writes text with the line ends it has."""
    path.write_text(text, encoding="utf-8", newline="\n")


def partition() -> int:
    """The number of Spark's partition that a task is at work on: ranges are numbered in their order."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return 0 if context is None else context.partitionId()


@dataclass(frozen=True)
class Encoder:
    """Encodes a part: what the driver knows of the whole catalogue by then.

    values: a mapped file of vocabularies by feature. looked_up: files of values' indices by feature and part.
    by_rank: (feature, its vocabulary's size) where an item's index in it is its item_index and one more, as the feature
    is the item's key.
    """

    work: Path
    fields: tuple[Field, ...]
    values: str
    by_rank: tuple[tuple[str, int], ...]
    history_columns: tuple[int, ...]
    looked_up: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def columns(self, number: int, table: pa.Table, first: int) -> dict[str, Fragments]:
        """Fragments by feature of items from item_index `first` on."""
        vocabularies = mapped_files.mapped(self.values) if self.values else None
        sizes, indices, found = dict(self.by_rank), dict(self.looked_up), {}
        for field in self.fields:
            column = table[field.name].chunk(0)
            if field.name in sizes:
                index = np.arange(first + 1, first + 1 + table.num_rows)
                found[field.name] = Fragments(wire.int_fragments(np.where(index < sizes[field.name], index, 0)))
                continue
            if field.name in indices:
                found[field.name] = _of_indices(field, column, indices[field.name][number])
                continue
            known = None
            if field.encode == "vocabulary" and vocabularies is not None:
                known = vocabularies[field.name].chunk(0)[0].values
            found[field.name] = encoding.encoded(field, known, column)
        return found

    def store(self, number: int, table: pa.Table, first: int, begin: int, mass: Ints) -> str:
        """Writes the part's file, and the places of its items by number."""
        end = begin + np.cumsum(mass)
        pieces = []
        for fragments in self.columns(number, table, first).values():
            pieces += [fragments.values, *([] if fragments.lengths is None else [fragments.lengths])]
        sizes = np.stack([wire.lengths_of(piece) for piece in pieces], axis=1).astype(np.int32)
        history = [pieces[place] for place in self.history_columns]
        encoded = pa.table({
            "key": encoding.texts(table["key"].chunk(0)),
            "title": table["title"].chunk(0).cast(pa.large_string()),
            "count": table["count"].chunk(0),
            "mass": pa.array(mass),
            "end": pa.array(end),
            "whole": _joined(pieces, table.num_rows),
            "history": _joined(history, table.num_rows),
            "sizes": pa.FixedSizeListArray.from_arrays(pa.array(sizes.reshape(-1)), len(pieces)),
        })  # fmt: skip
        places = pa.table(
            [table["number"], pa.array(first + np.arange(len(mass))), pa.array(end - mass), pa.array(mass)],
            schema=PLACES,
        )
        stored(self.work / "places.parquet" / f"part-{number:05d}.parquet", lambda path: pq.write_table(places, path))
        return stored(self.work / "catalogue" / f"{number:05d}.arrow", lambda path: mapped_files.store(path, encoded))


def _of_indices(field: Field, column: pa.Array, path: str) -> Fragments:
    """A vocabulary's fragments where each value's index was looked up."""
    table = mapped_files.mapped(path)
    owners = encoding.flat_lists(column)[1] if field.shape == "list" else None
    index = np.zeros(len(column) if owners is None else len(owners), np.int64)
    index[table["place"].to_numpy()] = table["index"].to_numpy()
    if owners is None:
        return Fragments(wire.int_fragments(index))
    return encoding.list_fragments(index, owners, len(column))


def _joined(pieces: Sequence[pa.LargeBinaryArray], items: int) -> pa.LargeBinaryArray:
    if not pieces:
        return wire.binary_array(b"", np.zeros(items + 1, np.int64))
    return pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))


def written_items(plan: Plan, partitions: Partitions, number: int) -> dict[str, Any]:
    """Writes a part's shard of items/; what the manifest says of it."""
    name = f"{number:05d}-of-{plan.partitions:05d}-{plan.run}"
    writer = ShardWriter(plan.root, "items", name, plan.compression)
    try:
        table, columns = mapped_files.mapped(partitions.paths[number]), plan.record.item_columns()
        names = blob_columns(plan.item_fields)
        for begin in range(0, table.num_rows, ITEMS_A_STEP):
            some = table.slice(begin, ITEMS_A_STEP)
            count = some.num_rows
            offsets, data = wire.buffers_of(some["whole"].chunk(0))
            sizes = some["sizes"].chunk(0).flatten().to_numpy().astype(np.int64)
            pieces = wire.binary_array(data, offsets[0] + np.concatenate([[0], np.cumsum(sizes)]))
            index = int(partitions.first[number]) + begin + np.arange(count)
            payloads = {"item.index": wire.int_fragments(index), "item.count": wire.int_fragments(some["count"])}
            for key in ("key", "title"):
                payloads[f"item.{key}"] = wire.bytes_fragments(pc.fill_null(some[key].combine_chunks(), ""))
            for place, piece in enumerate(names):
                if not piece.endswith(".lengths"):
                    own = place + len(names) * np.arange(count)
                    payloads[f"item.{piece}"] = pieces.take(pa.array(own))
            writer.write(codec.encode(columns, payloads))
        writer.close()
    except BaseException:
        writer.discard()
        raise
    told = {name: getattr(writer, name) for name in ("path", "bytes", "crc32c", "records")}
    return told | {"digest": f"{writer.digest:x}"}
