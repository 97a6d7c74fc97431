"""python -m pipelines.embed: every item of a dataset's catalogue through an exported item tower, with Apache Beam.

    items/ shards -> batches of raw values -> RunInference (pipelines/item_tower.py) -> part-*.parquet

For a catalogue that has grown since the model was trained: towers take attributes, so an item needs no clicks. The
parts hold item_id, item_index (of this dataset), title, features (raw, those of histories), embedding;
`_embeddings.json` comes last and vouches for them. Needs `pip install 'prebatch[beam,trainer]'`. A worker holds the
vocabularies, the tower and batches of 1,024 items; Beam's direct runner executes it in this process.
"""

import functools
import gzip
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.commands import reporting_errors
from pipelines.direct_runner import beam_and_runner, quiet
from pipelines.item_tower import Batch, handler
from pipelines.staging import check_free, staged
from schemas import codec, raw, storage, tfrecord
from schemas.errors import ConfigurationError, CorruptDataset, EnvironmentProblem
from schemas.files import file_crc32c, file_sha256, local_path, write_atomically
from schemas.manifest import Dataset
from schemas.model import EMBEDDINGS, ITEM_ID, ITEM_TOWER, Serving, version_folder
from schemas.record import Field

EMBEDDED = "_embeddings.json"  # other readers of a folder of Parquet pass over names with _
BATCH = 1024

Record = dict[str, codec.Decoded]


@click.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `trainer train` wrote.")
@click.option("--data", required=True, metavar="URI", help="Folder of a finished dataset.")
@click.option("--output", required=True, metavar="URI", help="Folder for the vectors.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(model: Path, data: str, output: str, overwrite: bool, debug: bool) -> None:
    """Embed a dataset's whole catalogue with a model's item tower."""
    with reporting_errors(debug):
        check_free(output, overwrite)
        report = run(model, Dataset.open(data), output, overwrite)
        left = f"; {report['unknown_items']:,} unknown to it left out" if report["unknown_items"] else ""
        click.echo(f"embeddings: {local_path(output)} ({report['items']:,} items, {report['dimension']} numbers{left})")


def run(model: Path, dataset: Dataset, output: str, overwrite: bool = False) -> dict[str, Any]:
    """Writes the vectors of every item; returns what `_embeddings.json` says.

    Raises:
      ConfigurationError: no model, or one that takes other features than the dataset has. OutputError: the output
        exists. CorruptDataset: a file of the dataset differs from its manifest.
    """
    serving, (digest, dimension) = Serving.read(model), _vectors(model)
    tower = version_folder(model / ITEM_TOWER)
    _check(serving, dataset)
    if importlib.util.find_spec("tensorflow") is None:
        raise EnvironmentProblem("TensorFlow is missing; pip install 'prebatch[beam,trainer]'")
    beam, direct = beam_and_runner()
    inference, parquet = (import_module(f"apache_beam.{name}") for name in ("ml.inference.base", "io.parquetio"))
    for file in (*dataset.manifest.items.shards, *dataset.manifest.vocabulary.values()):
        dataset.check(file)
    paths = [dataset.location(shard) for shard in dataset.manifest.items.shards]
    read = functools.partial(batches, uri=dataset.uri, serving=serving)
    schema = _schema(serving, dimension)
    with staged(output, overwrite) as folder:
        with quiet(), beam.Pipeline(runner=direct.FnApiRunner()) as pipeline:
            rows = (
                pipeline
                | "items/" >> beam.Create(paths)
                | beam.Reshuffle()
                | "raw values" >> beam.FlatMap(read)
                | "item tower" >> inference.RunInference(handler(str(tower)))
            )
            rows | parquet.WriteToParquetBatched(str(folder / "part"), schema, file_name_suffix=".parquet")
        return _finished(folder, dataset, serving, {"model": digest, "dimension": dimension})


def batches(path: str, uri: str, serving: Serving) -> Iterator[Batch]:
    """The items of a shard, in batches, as the tower takes them."""
    dataset = _dataset(uri)
    with storage.opened(path) as stored:
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stored)) if path.endswith(".gz") else stored
        records = map(codec.decode, tfrecord.read_frames(stream, path))
        while part := list(itertools.islice(records, BATCH)):
            yield batch(part, dataset, serving)


def batch(records: list[Record], dataset: Dataset, serving: Serving) -> Batch:
    """Items from their records in items/."""
    keys = [_bytes(record, "item.key") for record in records]
    taken = [] if serving.matrix else [field.name for field in serving.record.item]
    values = {
        field.name: raw_values(records, field, dataset)
        for field in dataset.manifest.record.item
        if field.name in taken or field.name in serving.record.history
    }
    rows = {
        "item_id": pa.array([key.decode("utf-8", "replace") for key in keys], pa.string()),
        "item_index": np.array([record["item.index"][0] for record in records], np.int64),
        "title": pa.array([_bytes(record, "item.title").decode("utf-8", "replace") for record in records], pa.string()),
        **raw.features(serving.record.history_fields, values),
    }
    inputs = {ITEM_ID: np.array(keys, object)} if serving.matrix else {name: values[name] for name in taken}
    return Batch(pa.table(rows), inputs)


def raw_values(records: list[Record], field: Field, dataset: Dataset) -> npt.NDArray[Any]:
    """A feature of some items: [n], [n, width] or, for lists, [n, longest] padded."""
    stored = [np.asarray(record[f"item.{field.name}"]) for record in records]
    flat = np.concatenate(stored)
    if field.encode != "none":
        flat = _by_index(dataset.uri, field.name)[flat]
    if field.shape == "list":
        return raw.padded(flat, np.array([len(values) for values in stored], np.int64))
    return flat if field.shape == "scalar" else flat.reshape(len(records), -1)


@functools.lru_cache(maxsize=1)
def _dataset(uri: str) -> Dataset:
    return Dataset.open(uri)


@functools.lru_cache(maxsize=64)
def _by_index(uri: str, name: str) -> npt.NDArray[Any]:
    """Raw values of an item feature by index; read once a worker and not shipped with each task."""
    dataset = _dataset(uri)
    return raw.by_index(dataset, next(field for field in dataset.manifest.record.item if field.name == name))


def _bytes(record: Record, key: str) -> bytes:
    values = record.get(key)
    return bytes(values[0]) if values is not None and len(values) else b""


def _vectors(model: Path) -> tuple[str, int]:
    """(what tells the model apart, numbers of a vector)."""
    path = model / EMBEDDINGS
    try:
        return file_sha256(path), pq.read_schema(path).field("embedding").type.list_size
    except (OSError, KeyError, AttributeError, pa.ArrowInvalid) as error:
        why = str(error).splitlines()[0]
        raise ConfigurationError(
            f"--model {model}: expected {EMBEDDINGS} ({why}); write a model with python -m trainer train"
        ) from error


def _check(serving: Serving, dataset: Dataset) -> None:
    """Raises a ConfigurationError where raw values of the dataset would not mean to the tower what they do here."""
    there = {field.name: field for field in dataset.manifest.record.item}
    wanted = serving.record.history_fields if serving.matrix else serving.record.item
    for field in wanted:
        other = there.get(field.name)
        if other is None:
            raise ConfigurationError(
                f"--data {dataset.uri}: has no item feature {field.name!r}, which the model takes; "
                "write it with the features that the model was trained on"
            )
        # Of a bucket only its number is stored, so it means the same number only where the boundaries are the same.
        for name in ("encode", "shape", "boundaries"):
            mine, theirs = getattr(field, name), getattr(other, name)
            if mine != theirs:
                raise ConfigurationError(
                    f"--data {dataset.uri}: item feature {field.name!r} differs from the model's in {name}: "
                    f"{mine} expected, {theirs} found; train on this dataset, or give the job these boundaries"
                )


def _schema(serving: Serving, dimension: int) -> pa.Schema:
    fields = [("item_id", pa.string()), ("item_index", pa.int64()), ("title", pa.string())]
    history = [pa.field(field.name, raw.column_type(field)) for field in serving.record.history_fields]
    fields += [(raw.FEATURES, pa.struct(history))] if history else []
    return pa.schema([*fields, ("embedding", pa.list_(pa.float32(), dimension))])


def _finished(folder: Path, dataset: Dataset, serving: Serving, told: dict[str, Any]) -> dict[str, Any]:
    """Counts what was written and writes `_embeddings.json`."""
    files, indices = {}, [np.zeros(0, np.int64)]
    for path in sorted(folder.glob("*.parquet")):
        column = pq.read_table(path, columns=["item_index"])["item_index"].to_numpy()
        indices.append(column)
        files[path.name] = {"items": len(column), "bytes": path.stat().st_size, "crc32c": file_crc32c(path)}
    found, items = np.concatenate(indices), dataset.manifest.items.records
    known = np.unique(found)
    unknown = items - len(known)
    inside = len(known) == len(found) and (not len(known) or (known[0] >= 0 and known[-1] < items))
    if not inside or (unknown and not serving.matrix):
        raise CorruptDataset(
            f"{dataset.uri}/items: item.index 0 to {items - 1} expected once each, "
            f"{len(found)} vectors of {len(known)} different items came out"
        )
    report = {**told, "items": len(found), "unknown_items": unknown}
    report |= {"dataset": dataset.manifest.content_digest, "files": files}
    write_atomically(folder / EMBEDDED, (json.dumps(report, indent=1) + "\n").encode())
    return report


if __name__ == "__main__":
    sys.exit(main())
