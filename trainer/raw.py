"""Raw values again from stored indices: what a caller of the exported towers would send for a record of the dataset.

A dataset holds indices, the towers in `user_tower/` and `item_tower/` take raw values. To evaluate them as they will be
served, each index becomes a value that maps to it (schemas/raw.py).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas import raw
from schemas.manifest import Dataset
from schemas.model import ITEM_ID
from schemas.record import Field, RecordSpec
from trainer.batches import Bag, Items, Queries
from trainer.dataset import Catalogue


class RawValues:
    """Raw values by feature name for a dataset's queries and items. Vocabularies are read and verified once."""

    def __init__(self, dataset: Dataset, spec: RecordSpec) -> None:
        self.spec = spec
        self.values = {field.name: raw.by_index(dataset, field) for field in (*spec.user, *spec.item)}

    def queries(self, queries: Queries) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the user tower: features [n] or [n, width], `history_<feature>` [n, length], `history_lengths`."""
        count = int(queries.lengths.shape[0])
        inputs = {field.name: self._feature(field, queries.user[field.name], count) for field in self.spec.user}
        if not self.spec.history:
            return inputs
        lengths, length = queries.lengths.numpy(), self.spec.history_length
        # A query has the most recent item first; callers send the oldest first, padding behind.
        place = lengths[:, np.newaxis] - 1 - np.arange(length)
        rows = np.take_along_axis(queries.places.numpy(), np.where(place >= 0, place, np.arange(length)), axis=1)
        for field in self.spec.history_fields:
            table = self._feature(field, queries.history[field.name], int(queries.index.shape[0]))
            inputs[f"history_{field.name}"] = table[rows]
        inputs["history_lengths"] = lengths
        return inputs

    def items(self, items: Items) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the item tower: [n], [n, width] or, for lists, [n, longest] padded with ""."""
        count = int(items.index.shape[0])
        return {field.name: self._feature(field, items.features[field.name], count) for field in self.spec.item}

    def _feature(self, field: Field, values: Any, count: int) -> npt.NDArray[Any]:
        if isinstance(values, Bag):
            return _padded(self.values[field.name], values, count)
        stored: npt.NDArray[Any] = values.numpy() if hasattr(values, "numpy") else values
        return stored if field.encode == "none" else self.values[field.name][stored]


def item_ids(catalogue: Catalogue, items: Items) -> dict[str, npt.NDArray[Any]]:
    """The input of an item tower that is a matrix: the ids [n] of some of the catalogue's items."""
    return {ITEM_ID: np.array([catalogue.key[i] for i in items.index.numpy()], object)}


def _padded(values: npt.NDArray[Any], bag: Bag, count: int) -> npt.NDArray[Any]:
    indices, rows = bag.real
    order = np.argsort(rows, kind="stable")
    return raw.padded(values[indices[order]], np.bincount(rows, minlength=count))
