"""`python -m trainer index`: the catalogue's vectors as a folder that finds the nearest items, its recall measured.

    index.faiss     the vectors (trainer/ann.py), by position
    items.parquet   item_id, title, features: what stands at each position
    index.json      kind, items, dimension, recall@k and what it was measured on, the model; its being there says that
                    the folder is whole, and it vouches for the other two by size and CRC-32C

Vectors are those of the model's own catalogue, or of a newer one that `pipelines.embed` sent through its item tower.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigurationError, CorruptDataset
from schemas.files import file_crc32c, file_sha256, write_atomically
from schemas.model import EMBEDDINGS, INDEX, ITEMS, USERS
from trainer.ann import Floats, Nearest, recall, thresholds
from trainer.staging import staged

DESCRIPTION, VECTORS = "index.json", "index.faiss"
EMBEDDED = "_embeddings.json"  # what `pipelines.embed` leaves beside its parts
QUERIES = 2_000  # of the sample that recall is measured on


@dataclass(frozen=True)
class Options:
    """flat_below: items from which on the index is approximate. target: its recall@k, which decides how many cells are
    looked into.
    """

    flat_below: int = 100_000
    target: float = 0.95
    k: int = 100
    seed: int = 0


def build(
    model: Path, embeddings: Path | None, output: Path, options: Options, say: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the index of a model's items to `output` and returns what index.json says.

    Args:
      embeddings: a folder that `pipelines.embed` wrote with this model; None takes the model's own catalogue.

    Raises:
      ConfigurationError: no model, or vectors of another one.
    """
    started = time.perf_counter()
    digest = model_digest(model)
    items, vectors = _own(model) if embeddings is None else _embedded(embeddings, digest)
    if not len(vectors):
        raise ConfigurationError(f"--model {model}: has no items to build an index of")
    k = min(options.k, len(vectors))
    queries, of = _queries(model, vectors)
    # Probes are chosen on one half of the queries; what is told is the recall of the other.
    chosen_on, told_of = (queries[0::2], queries[1::2]) if len(queries) > 1 else (queries, queries)
    if len(vectors) < options.flat_below:
        nearest = Nearest.flat(vectors)
    else:
        nearest = Nearest.ivf(vectors, seed=options.seed)
        nearest.reach(options.target, chosen_on, vectors, k)
    found = recall(nearest.search(told_of, k)[1], told_of, vectors, thresholds(told_of, vectors, k), k)
    described: dict[str, Any] = {
        "kind": nearest.kind, "items": len(vectors), "dimension": int(vectors.shape[1]), "k": k, "recall": found,
        "queries": len(told_of), "queries_of": of, "cells": nearest.cells, "probes": nearest.probes, "model": digest,
    }  # fmt: skip
    with staged(output, DESCRIPTION, "an index") as folder:
        nearest.write(folder / VECTORS)
        pq.write_table(items, folder / ITEMS)
        described["files"] = {
            name: {"bytes": (folder / name).stat().st_size, "crc32c": file_crc32c(folder / name)}
            for name in (VECTORS, ITEMS)
        }
        write_atomically(folder / DESCRIPTION, (json.dumps(described, indent=1) + "\n").encode())
    kind = "exact" if nearest.kind == "flat" else f"{nearest.cells:,} cells, {nearest.probes:,} looked into"
    say(
        f"index:  {output} ({len(vectors):,} items, {kind}, {time.perf_counter() - started:.1f} s)\n"
        f"recall: {found:.4f} of the exact top {k}, over {len(told_of):,} {of} vectors"
    )
    if found < options.target:
        say(f"        below --recall {options.target}, though every cell is looked into")
    return described


class Index:
    """A finished index. items: its items.parquet. description: its index.json.

    Raises:
      ConfigurationError: there is none. CorruptDataset: a file differs from what index.json says of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = description(folder)
        for name, told in self.description["files"].items():
            path = folder / name
            size = path.stat().st_size if path.exists() else 0
            if size != told["bytes"] or file_crc32c(path) != told["crc32c"]:
                raise CorruptDataset(
                    f"{path}: is not what {DESCRIPTION} says of it ({told['bytes']} bytes expected, {size} found); "
                    "build it anew with python -m trainer index"
                )
        self.items = pq.read_table(folder / ITEMS)
        self._nearest = Nearest.read(folder / VECTORS, self.description["kind"], self.description["probes"])

    def search(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """(position, score) of the k items nearest to one vector [dimension], or as many as were found."""
        scores, found = self._nearest.search(query[np.newaxis], min(k, self.items.num_rows))
        return [(int(item), float(score)) for item, score in zip(found[0], scores[0], strict=True) if item >= 0]


def description(folder: Path) -> dict[str, Any]:
    """The index.json of a folder.

    Raises:
      ConfigurationError: there is none.
    """
    try:
        found = dict(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
        return {**found, "files": {name: dict(found["files"][name]) for name in (VECTORS, ITEMS)}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"--index {folder}: expected a folder with {DESCRIPTION} ({type(error).__name__}); "
            "build one with python -m trainer index"
        ) from error


def default(model: Path) -> Path:
    """Where a model's index lies unless somebody says otherwise."""
    return model / INDEX


def model_digest(model: Path) -> str:
    """What tells models apart: SHA-256 of the vectors of the catalogue trained on.

    Raises:
      ConfigurationError: the folder has none.
    """
    try:
        return file_sha256(model / EMBEDDINGS)
    except OSError as error:
        raise ConfigurationError(
            f"--model {model}: expected {EMBEDDINGS} ({error.strerror}); write a model with python -m trainer train"
        ) from error


def _own(model: Path) -> tuple[pa.Table, Floats]:
    try:
        embedded, items = pq.read_table(model / EMBEDDINGS), pq.read_table(model / ITEMS)
    except (OSError, pa.ArrowInvalid) as error:
        why = str(error).splitlines()[0]
        raise ConfigurationError(
            f"--model {model}: {EMBEDDINGS} and {ITEMS} expected ({why}); write a model with python -m trainer train"
        ) from error
    if embedded["item_id"] != items["item_id"]:
        raise ConfigurationError(f"--model {model}: {EMBEDDINGS} and {ITEMS} are of different catalogues; train anew")
    return items, _matrix(embedded["embedding"])


def _embedded(folder: Path, digest: str) -> tuple[pa.Table, Floats]:
    try:
        told = json.loads((folder / EMBEDDED).read_text(encoding="utf-8"))
        if told["model"] != digest:
            raise ConfigurationError(
                f"--embeddings {folder}: were made by another model; run python -m pipelines.embed with this --model"
            )
        table = pa.concat_tables([pq.read_table(folder / name) for name in told["files"]]).sort_by("item_index")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"--embeddings {folder}: expected what python -m pipelines.embed writes ({error})"
        ) from error
    return table.drop_columns(["item_index", "embedding"]), _matrix(table["embedding"])


def _matrix(column: pa.ChunkedArray) -> Floats:
    vectors: Floats = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return np.ascontiguousarray(vectors.reshape(len(column), -1))


def _queries(model: Path, items: Floats) -> tuple[Floats, str]:
    """Vectors to measure recall with: held-out users', or items' where the model carries none; and which."""
    path = model / USERS
    column = pq.read_table(path, columns=["embedding"])["embedding"] if path.exists() else []
    found = _matrix(column) if len(column) else items
    if len(found) > QUERIES:
        found = found[np.linspace(0, len(found), QUERIES, endpoint=False).astype(np.int64)]
    return found, "user" if len(column) else "item"
