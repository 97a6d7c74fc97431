"""An exported model read back: vectors from the SavedModels and the Parquet file, for `evaluate`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import tensorflow as tf
import yaml

from schemas.errors import ConfigurationError, ProjectError
from schemas.model import CONFIG, EMBEDDINGS, ITEM_TOWER, USER_TOWER, version_folder
from trainer.dataset import Catalogue, HeldOut
from trainer.metrics import Floats
from trainer.raw import RawValues, item_ids


class Served:
    """The towers in a model's folder, taking raw values.

    Raises:
      ConfigurationError: the folder holds no exported model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        missing = [name for name in (USER_TOWER, ITEM_TOWER, EMBEDDINGS) if not (folder / name).exists()]
        if missing:
            problem = (
                f"--model {folder}: expected {USER_TOWER}/, {ITEM_TOWER}/ and {EMBEDDINGS}, but {missing[0]} is missing"
            )
            raise ConfigurationError(f"{problem}; write a model with python -m trainer train")
        self.loaded = {
            name: tf.saved_model.load(str(version_folder(folder / name))) for name in (USER_TOWER, ITEM_TOWER)
        }

    def user_vectors(self, held_out: HeldOut, raw: RawValues) -> Floats:
        """float32 [n, dimension] of held-out clicks' users."""
        parts = [self._run(USER_TOWER, raw.queries(queries)) for queries in held_out.queries]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def item_vectors(self, catalogue: Catalogue, raw: RawValues) -> Floats:
        """float32 [items, dimension] by item_index: the stored ones, and the item tower's for items not stored."""
        table = pq.read_table(self.folder / EMBEDDINGS)
        stored: Floats = np.stack(table["embedding"].to_numpy())
        place = {key: i for i, key in enumerate(table["item_id"].to_pylist())}
        rows = np.array([place.get(key.decode("utf-8", "replace"), -1) for key in catalogue.key])
        vectors: Floats = stored[rows]
        for items in catalogue.items:
            index = items.index.numpy()
            if (rows[index] < 0).any():
                computed = self._run(ITEM_TOWER, item_ids(catalogue, items) if self.matrix else raw.items(items))
                new = rows[index] < 0
                vectors[index[new]] = computed[new]
        return vectors

    def users(self, inputs: dict[str, npt.NDArray[Any]]) -> Floats:
        """float32 [n, dimension] of raw inputs of the user tower."""
        return self._run(USER_TOWER, inputs)

    @property
    def item_ids(self) -> list[str]:
        """Ids of the stored items, by item_index of the dataset that it was trained on."""
        ids: list[str] = pq.read_table(self.folder / EMBEDDINGS, columns=["item_id"])["item_id"].to_pylist()
        return ids

    @property
    def history_length(self) -> int | None:
        """Items of a history that the user tower looks at; None for all that records hold."""
        user = (self.configuration.get("model") or {}).get("user") or {}
        length: int | None = user.get("history_length")
        return length

    @property
    def matrix(self) -> bool:
        """Whether the item tower takes nothing but the id, as it is a row of a matrix for each."""
        item = (self.configuration.get("model") or {}).get("item") or {}
        return bool(item.get("kind") == "matrix")

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration that it was trained with; empty where config.yaml is gone."""
        path = self.folder / CONFIG
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}

    def _run(self, tower: str, inputs: dict[str, npt.NDArray[Any]]) -> Floats:
        signature = self.loaded[tower].signatures["serving_default"]
        expected = set(signature.structured_input_signature[1])
        if expected != inputs.keys():
            differing = ", ".join(sorted(expected ^ inputs.keys()))
            raise ProjectError(
                f"{self.folder / tower}: inputs and the dataset's features differ in {differing}; train on this dataset"
            )
        vectors: Floats = signature(**{name: tf.constant(values) for name, values in inputs.items()})[
            "embedding"
        ].numpy()
        return vectors
