"""User vectors at click time: what an exported user tower says at each training click, for pipelines/mine.py.

The clicks come as pipelines/queries.py wrote them, with raw user features and the history before each click as
item_index; the tower is the one that is served, so what is mined is what a client would be shown. Cost: a pass of the
user tower over the clicks, in batches; the catalogue's raw attributes in memory; d * 4 bytes a click on disk.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import raw as raw_values
from schemas.errors import ConfigurationError
from schemas.files import file_sha256, write_atomically
from schemas.model import EMBEDDINGS
from schemas.raw import PADDING
from schemas.record import Field, RecordSpec
from trainer import dataset
from trainer.dataset import Catalogue
from trainer.raw import RawValues
from trainer.served import Served
from trainer.staging import staged

QUERIES, VECTORS = "_queries.json", "_vectors.json"
CARRIED = ("user", "item", "time", "occurrence", "number", "click_key", "positive")
BATCH = 1024

Values = npt.NDArray[Any]


def embed(model: Path, uri: str, queries: Path, output: Path, say: Callable[[str], None]) -> int:
    """Writes a vector a click, beside who, what and when, to `output`; returns how many.

    Raises:
      ConfigurationError: queries of another dataset, or a model of another catalogue.
    """
    told = _description(queries)
    served, data = Served(model), dataset.open_verified(uri, ())
    if told.get("dataset") != data.manifest.content_digest:
        raise ConfigurationError(
            f"--queries {queries}: were written for another dataset than {data.uri}; "
            "run python -m pipelines.queries with this --data"
        )
    spec = dataset.record_spec(data, served.history_length)
    catalogue = dataset.read_catalogue(data, spec)
    if catalogue.gone is not None:
        raise ConfigurationError(
            f"--data {data.root}: {int(catalogue.gone.sum()):,} of its items have left the item table, so that a model "
            "does not rank them all; mine from a dataset that was made without inherit"
        )
    if served.item_ids != [key.decode("utf-8", "replace") for key in catalogue.key]:
        raise ConfigurationError(f"--model {model}: was trained on another catalogue than that of {data.uri}")
    inputs = ClickInputs(spec, RawValues(data, spec), catalogue)
    count, dimension = 0, 0
    with staged(output, VECTORS, "click vectors") as folder:
        for number, path in enumerate(sorted(queries.glob("*.parquet"))):
            tables = [_beside(batch, served.users(inputs.of(batch))) for batch in _batches(path)]
            if tables:
                pq.write_table(pa.concat_tables(tables), folder / f"part-{number:05d}.parquet")
                count += sum(table.num_rows for table in tables)
                dimension = len(tables[0]["vector"][0])
        told |= {"model": file_sha256(model / EMBEDDINGS), "dimension": dimension, "clicks": count}
        write_atomically(folder / VECTORS, json.dumps(told, indent=1).encode())
    say(f"vectors: {output} ({count:,} clicks, {dimension} numbers each)")
    return count


class ClickInputs:
    """Inputs of a user tower by name, as `trainer/serving.py` lists them, for rows of queries."""

    def __init__(self, spec: RecordSpec, raw: RawValues, catalogue: Catalogue) -> None:
        self._spec = spec
        self._items = {field.name: _table(raw, catalogue, field) for field in spec.history_fields}

    def of(self, batch: pa.RecordBatch) -> dict[str, Values]:
        """The inputs of some rows: [n], [n, width] and, for histories, [n, history_length, ...]."""
        inputs = {field.name: raw_values.inputs(field, batch[f"user_{field.name}"]) for field in self._spec.user}
        if not self._spec.history:
            return inputs
        length = self._spec.history_length
        stored = batch["history"].flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        sizes = batch["history"].value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        lengths = np.minimum(sizes, length)
        place = (np.cumsum(sizes) - lengths)[:, None] + np.arange(length)  # the latest ones, the oldest first
        there = np.arange(length) < lengths[:, None]
        rows = np.zeros((batch.num_rows, length), np.int64)
        rows[there] = stored[place[there]]
        inputs |= {f"history_{name}": table[rows] for name, table in self._items.items()}
        inputs["history_lengths"] = lengths
        return inputs


def _table(raw: RawValues, catalogue: Catalogue, field: Field) -> Values:
    """[items] or [items, width] raw values of a feature by item_index; lists padded to the longest."""
    parts = [(items.index.numpy(), raw.items(items)[field.name]) for items in catalogue.items]
    widest = max((values.shape[1] for _, values in parts if values.ndim == 2), default=0)
    first = parts[0][1]
    nothing: Any = PADDING.encode() if first.dtype.kind == "O" else 0
    table = np.full((len(catalogue), *([widest] if first.ndim == 2 else [])), nothing, first.dtype)
    for index, values in parts:
        if values.ndim == 2:
            table[index, : values.shape[1]] = values
        else:
            table[index] = values
    return table


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        if batch.num_rows:
            yield batch


def _beside(batch: pa.RecordBatch, vectors: npt.NDArray[np.float32]) -> pa.Table:
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
    # Spark leaves its own schema in a file's metadata and believes that before the columns.
    table = pa.Table.from_batches([batch]).select(list(CARRIED)).replace_schema_metadata(None)
    return table.append_column("vector", lists)


def _description(queries: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((queries / QUERIES).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--queries {queries}: expected {QUERIES} ({error}); write it with python -m pipelines.queries"
        ) from error
