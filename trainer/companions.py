"""What a model's folder carries beside the towers, so that they can be asked without the dataset.

`index` and `recommend` live on it. Users are held-out ones, as they were before their latest held-out click: what they
had is personal data, so `export.users` says how many go along, 0 for nobody's.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import raw as raw_values
from schemas.manifest import Dataset
from schemas.model import ITEMS, USERS, Serving, user_key
from schemas.record import RecordSpec
from trainer.config import Configuration
from trainer.dataset import Catalogue, HeldOut
from trainer.loop import Trained
from trainer.metrics import Floats
from trainer.raw import RawValues

Ragged = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def write(
    trained: Trained, data: Dataset, spec: RecordSpec, raw: RawValues, config: Configuration, folder: Path
) -> None:
    """Writes serving.json, items.parquet and users.parquet of a trained run."""
    matrix, exclude = config.model.item.kind == "matrix", config.evaluation.exclude_history
    Serving(spec, matrix, user_key(data.manifest), exclude).write(folder)
    pq.write_table(items(trained.catalogue, spec, raw), folder / ITEMS)
    name = "test" if len(trained.held_out["test"]) else "validation"
    found = users(trained.held_out[name], trained.users[name], trained.catalogue, spec, raw, config.export.users)
    pq.write_table(found, folder / USERS)


def items(catalogue: Catalogue, spec: RecordSpec, raw: RawValues) -> pa.Table:
    """item_id, title, features (those of histories, raw), by item_index."""
    parts = [
        pa.table({"index": part.index.numpy(), **raw_values.features(spec.history_fields, raw.items(part))})
        for part in catalogue.items
    ]
    table = pa.concat_tables(parts).sort_by("index").drop_columns("index")
    names = {"item_id": _texts(catalogue.key), "title": _texts(catalogue.title)}
    found = pa.table({**names, **{name: table[name] for name in table.column_names}})
    # As in item_embeddings.parquet: what has left the item table is not to be recommended.
    return found if catalogue.gone is None else found.filter(pa.array(~catalogue.gone))


def users(
    held_out: HeldOut, vectors: Floats, catalogue: Catalogue, spec: RecordSpec, raw: RawValues, most: int
) -> pa.Table:
    """user, features (raw), history, seen (item ids), embedding: each user's latest held-out click, evenly spaced.

    history: what the tower is told, the oldest first. seen: what is left out of a ranking.
    """
    order = np.argsort(held_out.time, kind="stable")
    latest = np.array(sorted({held_out.key[click]: click for click in order.tolist()}.values()), np.int64)
    if len(latest) > most:
        latest = latest[np.linspace(0, len(latest), most, endpoint=False).astype(np.int64)]
    keys = _texts(catalogue.key)
    vectors = vectors[latest]
    table = {"user": _texts([held_out.key[click] for click in latest])}
    table |= _features(held_out, latest, spec, raw)
    table["history"] = _lists(held_out.history, latest, keys, spec.history_length if spec.history else 0)
    table["seen"] = _lists(held_out.exclude, latest, keys, None)
    width = max(vectors.shape[1] if vectors.ndim == 2 else 1, 1)
    table["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)
    return pa.table(table)


def _features(
    held_out: HeldOut, chosen: npt.NDArray[np.int64], spec: RecordSpec, raw: RawValues
) -> dict[str, Any]:  # fmt: skip
    """The chosen clicks' user features as one column."""
    parts, first = [], 0
    for queries in held_out.queries:
        count = int(queries.lengths.shape[0])
        mine = chosen[(chosen >= first) & (chosen < first + count)] - first
        if len(mine):
            table = pa.table(raw_values.features(spec.user, raw.queries(queries)))
            parts.append(table.take(pa.array(mine)))
        first += count
    whole = pa.concat_tables(parts) if parts else pa.table({})
    return {name: whole[name] for name in whole.column_names}


def _lists(ragged: Ragged, chosen: npt.NDArray[np.int64], keys: pa.Array, last: int | None) -> pa.Array:
    """Item ids of each chosen row, the `last` ones of it, all for None."""
    values, sizes = ragged
    ends = np.cumsum(sizes)[chosen]
    kept = sizes[chosen] if last is None else np.minimum(sizes[chosen], last)
    starts = np.repeat(ends - kept, kept)
    within = np.arange(len(starts)) - np.repeat(np.cumsum(kept) - kept, kept)
    offsets = pa.array(np.append(0, np.cumsum(kept)), pa.int32())
    return pa.ListArray.from_arrays(offsets, keys.take(pa.array(values[starts + within])))


def _texts(values: list[bytes]) -> pa.Array:
    return pa.array([value.decode("utf-8", "replace") for value in values], pa.string())
