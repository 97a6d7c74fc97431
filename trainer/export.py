"""Writes a trained run for others to use: two SavedModels, the item vectors, and proof that they are the same model.

What lies beside the towers so that they can be asked without a dataset is written by trainer/companions.py.

The proof is a fresh process with nothing of ours in it: it loads what was written, feeds raw values and compares with
the trainer's own vectors. Only then do the files replace those of the model before.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from schemas.errors import ProjectError
from schemas.manifest import Dataset
from schemas.model import EMBEDDINGS, FIRST_VERSION, ITEM_TOWER, ITEMS, SERVING, USER_TOWER, USERS
from schemas.record import RecordSpec
from trainer import companions, verification
from trainer.config import Configuration
from trainer.loop import Trained
from trainer.raw import RawValues, item_ids
from trainer.serving import ServedItems, ServedMatrix, ServedUsers
from trainer.towers import ItemMatrix

PROBES = 512


def export(
    trained: Trained, data: Dataset, spec: RecordSpec, config: Configuration, output: Path
) -> dict[str, float]:  # fmt: skip
    """Writes user_tower/1, item_tower/1 and what lies beside them (schemas/model.py); returns the largest differences.

    Raises:
      ProjectError: what was written does not compute what the trainer does; nothing in `output` was replaced.
    """
    staged = output / f".export-{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        raw = RawValues(data, spec)
        _write(trained, data, spec, raw, staged)
        companions.write(trained, data, spec, raw, config, staged)
        differences = verify(staged)
        for name in (USER_TOWER, ITEM_TOWER, EMBEDDINGS, ITEMS, USERS, SERVING):
            _replace(staged / name, output / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return differences


def verify(folder: Path) -> dict[str, float]:
    """The largest absolute difference by tower, found by a fresh process over the probes in `folder`."""
    # -P: the script's own folder must not be importable, or `import dataset` and the like would find our modules.
    command = [sys.executable, "-P", verification.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ProjectError(f"the exported towers in {folder} cannot be loaded by a fresh process: {reason}") from error
    if done.returncode:
        raise ProjectError(
            f"the exported towers differ from the trainer's own vectors: {report}; this is a fault of ours"
        )
    return {str(name): float(value) for name, value in report.items()}


def _write(trained: Trained, data: Dataset, spec: RecordSpec, raw: RawValues, folder: Path) -> None:
    vocabularies = {
        field.name: data.vocabulary(field.name) for field in (*spec.user, *spec.item) if field.encode == "vocabulary"
    }
    if isinstance(trained.model.item_tower, ItemMatrix):
        items: tf.Module = ServedMatrix(trained.model, trained.catalogue.key)
    else:
        items = ServedItems(trained.model, spec, vocabularies)
    for name, served in ((USER_TOWER, ServedUsers(trained.model, spec, vocabularies)), (ITEM_TOWER, items)):
        tf.saved_model.save(served, str(folder / name / FIRST_VERSION), signatures={"serving_default": served.serve})
    there = _there(trained)  # what has left the item table is not to be recommended
    keys = pa.array([trained.catalogue.key[i].decode("utf-8", "replace") for i in there], pa.string())
    stored = trained.items[there]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), stored.shape[1])
    pq.write_table(pa.table({"item_id": keys, "embedding": vectors}), folder / EMBEDDINGS)
    _write_probes(trained, raw, folder)


def _there(trained: Trained) -> npt.NDArray[np.int64]:
    """item_index of the items that are in the item table, rising."""
    gone = trained.catalogue.gone
    return np.arange(len(trained.items)) if gone is None else np.flatnonzero(~gone)


def _write_probes(trained: Trained, raw: RawValues, folder: Path) -> None:
    """Raw inputs of the first items and held-out users, and the trainer's vectors for them."""
    probes: dict[str, Any] = {"embeddings": trained.items[_there(trained)]}
    items = trained.catalogue.items[0]
    matrix = isinstance(trained.model.item_tower, ItemMatrix)
    inputs = item_ids(trained.catalogue, items) if matrix else raw.items(items)
    probes |= {f"item/{name}": _storable(values[:PROBES]) for name, values in inputs.items()}
    probes["item_vectors"] = trained.items[items.index.numpy()[:PROBES]]
    for name, held_out in trained.held_out.items():
        if len(held_out):
            queries = raw.queries(held_out.queries[0])
            probes |= {f"user/{name_}": _storable(values[:PROBES]) for name_, values in queries.items()}
            probes["user_vectors"] = trained.users[name][: min(PROBES, int(held_out.queries[0].lengths.shape[0]))]
    np.savez(folder / verification.PROBES, allow_pickle=False, **probes)


def _storable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Objects as fixed-width bytes, which need no pickle."""
    return values.astype(np.bytes_) if values.dtype == object else values


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)
