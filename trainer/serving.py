"""The towers as they are served: raw values by feature name in, unit vectors out, vocabularies inside.

A client sends what its own tables hold and knows nothing of indices. Every input is dense, as TensorFlow Serving's REST
and gRPC clients can send it:

    encode: vocabulary       string [n], the text of the value ("196" for the id 196); unknown ones become index 0
    ... shape: list          string [n, any], padded with ""
    encode: buckets          float64 [n]; NaN is missing
    encode: none             float32 [n] or [n, width]
    history_<feature>        the same for the items a user had, with one more axis: [n, any] or [n, any, ...], the
                             oldest first; of a longer history the most recent items are used
    history_lengths          int64 [n], how many entries of each row are real; what stands behind them is ignored

Where `item.kind` is matrix, an item is nothing but which one it is, so item_tower/ takes one input:

    item_id                  string [n], the item's id as in item_embeddings.parquet; zeros come out for one that is not
                             there, as a matrix has nothing to say about it: leave those out of a ranking

The output is `embedding`, float32 [n, dimension], one number more for a matrix, whose last one is the bias; the dot
product of a user's and an item's ranks the catalogue.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from schemas.model import ITEM_ID
from schemas.record import Field, RecordSpec
from trainer.batches import Bag, Items, Tensor, recent_first, without_history
from trainer.towers import TwoTowers


class Lookup(tf.Module):  # type: ignore[misc]
    """Raw values of one feature to what the towers take: indices, or numbers."""

    def __init__(self, field: Field, vocabulary: Sequence[str] | None) -> None:
        super().__init__()
        self.field = field
        self.table = None
        if vocabulary is not None:
            keys = tf.constant(list(vocabulary[1:]), tf.string)
            indices = tf.range(1, len(vocabulary), dtype=tf.int64)
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, indices), default_value=0)

    def __call__(self, values: Tensor) -> Tensor:
        """The shape of `values` stays."""
        if self.table is not None:
            return self.table.lookup(values)
        if self.field.encode == "none":
            return values
        boundaries = tf.constant(self.field.boundaries or (), tf.float64)
        flat = tf.reshape(values, [-1])
        index = 1 + tf.searchsorted(boundaries, flat, side="right", out_type=tf.int64)
        return tf.reshape(tf.where(tf.math.is_nan(flat), tf.zeros_like(index), index), tf.shape(values))

    def bag(self, values: Tensor) -> Bag:
        """Lists [n, longest] as a Bag of n entities; "" is padding."""
        rows = tf.where(values != "", tf.range(tf.shape(values, tf.int64)[0])[:, tf.newaxis], -1)
        return Bag(tf.reshape(self(values), [-1]), tf.reshape(rows, [-1]))


class ServedItems(tf.Module):  # type: ignore[misc]
    """item_tower/: item attributes by name to `embedding`."""

    def __init__(self, model: TwoTowers, spec: RecordSpec, vocabularies: dict[str, list[str]]) -> None:
        super().__init__()
        self.fields = spec.item
        self.lookups = {field.name: Lookup(field, vocabularies.get(field.name)) for field in spec.item}
        self.weights = [variable.value for variable in model.item_tower.variables]
        self._tower = _untracked(model.item_tower)
        self.serve = tf.function(
            self._serve, input_signature=[{field.name: _input(field) for field in spec.item}], autograph=False
        )

    def _serve(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        features = {field.name: _encoded(self.lookups[field.name], field, inputs[field.name]) for field in self.fields}
        count = tf.shape(inputs[self.fields[0].name], tf.int64)[0]
        return {"embedding": self._tower(Items(features, tf.range(count)))}


class ServedMatrix(tf.Module):  # type: ignore[misc]
    """item_tower/ where items are rows of a matrix: `item_id` to `embedding`, zeros for an unknown one.

    keys: the ids of the catalogue's items, in the order of item_index.
    """

    def __init__(self, model: TwoTowers, keys: Sequence[bytes]) -> None:
        super().__init__()
        rows = tf.range(len(keys), dtype=tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(list(keys), tf.string), rows)
        self.table = tf.lookup.StaticHashTable(initializer, default_value=-1)
        self.weights = [variable.value for variable in model.item_tower.variables]
        self._tower = _untracked(model.item_tower)
        signature = [{ITEM_ID: tf.TensorSpec([None], tf.string, ITEM_ID)}]
        self.serve = tf.function(self._serve, input_signature=signature, autograph=False)

    def _serve(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = self.table.lookup(inputs[ITEM_ID])
        vectors = self._tower(Items({}, rows))
        return {"embedding": tf.where(rows[:, tf.newaxis] >= 0, vectors, tf.zeros_like(vectors))}


class ServedUsers(tf.Module):  # type: ignore[misc]
    """user_tower/: user features and history by name to `embedding`."""

    def __init__(self, model: TwoTowers, spec: RecordSpec, vocabularies: dict[str, list[str]]) -> None:
        super().__init__()
        self.spec = spec
        fields = (*spec.user, *spec.history_fields)
        self.lookups = {field.name: Lookup(field, vocabularies.get(field.name)) for field in fields}
        self.weights = [variable.value for variable in model.user_tower.variables]
        self._tower = _untracked(model.user_tower)
        signature = {field.name: _input(field) for field in spec.user}
        if spec.history:
            signature |= {f"history_{field.name}": _input(field, in_history=True) for field in spec.history_fields}
            signature["history_lengths"] = tf.TensorSpec([None], tf.int64, "history_lengths")
        self.serve = tf.function(self._serve, input_signature=[signature], autograph=False)

    def _serve(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        user = {field.name: _encoded(self.lookups[field.name], field, inputs[field.name]) for field in self.spec.user}
        if not self.spec.history:
            count = tf.shape(inputs[self.spec.user[0].name], tf.int64)[0]
            return {"embedding": self._tower(without_history(user, count))}
        stored = inputs[f"history_{self.spec.history[0]}"]
        clicks, width = tf.shape(stored, tf.int64)[0], tf.shape(stored, tf.int64)[1]
        lengths = tf.clip_by_value(inputs["history_lengths"], 0, width)
        history = {}
        for field in self.spec.history_fields:
            values = inputs[f"history_{field.name}"]
            inner = tf.shape(values)[2:]
            table = tf.reshape(values, tf.concat([[-1], inner], 0))
            # One row more, to point at where all histories are empty.
            table = tf.concat([table, tf.fill(tf.concat([[1], inner], 0), _nothing(values))], 0)
            table.set_shape([None, *values.shape[2:]])
            history[field.name] = _encoded(self.lookups[field.name], field, table)
        index = tf.fill([clicks * width + 1], tf.constant(-1, tf.int64))
        ends = tf.range(clicks) * width + lengths
        return {"embedding": self._tower(recent_first(user, history, ends, lengths, None, index, self.spec, clicks))}


def _untracked(tower: Any) -> Callable[[Any], Tensor]:
    """The tower as a plain function: TensorFlow saves its variables, and Keras' own bookkeeping stays out."""
    return lambda inputs: tower(inputs, training=False)


def _nothing(values: Tensor) -> Any:
    return "" if values.dtype == tf.string else tf.zeros([], values.dtype)


def _encoded(lookup: Lookup, field: Field, values: Tensor) -> Any:
    return lookup.bag(values) if field.shape == "list" else lookup(values)


def _input(field: Field, in_history: bool = False) -> Any:
    dtype = {"vocabulary": tf.string, "buckets": tf.float64, "none": tf.float32}[field.encode]
    width = [] if field.shape == "scalar" else [None if field.shape == "list" else int(field.shape)]
    name = f"history_{field.name}" if in_history else field.name
    return tf.TensorSpec([None, *([None] if in_history else []), *width], dtype, name)
