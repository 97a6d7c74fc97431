"""The two towers, built from the features that a dataset's manifest lists, whichever they are.

An item is the sum of its attributes' embeddings, or a row of a matrix; a history is made of the same embeddings, and an
encoder makes a state of it.

Every layer makes its weights in `__init__` and says that it is built: features, not inputs, decide their shapes.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schemas.errors import ConfigurationError, ProjectError
from schemas.record import Field, RecordSpec
from trainer.attention import HistoryAttention
from trainer.batches import Batch, Items, Queries, Tensor
from trainer.config import Encoder, Model
from trainer.embeddings import INITIAL_STDDEV, FeatureEmbedding, ItemEmbeddings, constant
from trainer.hidden import HiddenLayers
from trainer.histories import HistoryGru, HistoryPooling

ENCODERS: dict[Encoder, Callable[..., Any]] = {
    "mean": HistoryPooling,
    "weighted": HistoryPooling,
    "gru": HistoryGru,
    "attention": HistoryAttention,
}


class ItemTower(keras.layers.Layer):  # type: ignore[misc]
    """Items as unit vectors [n, dimension], from all of their attributes."""

    def __init__(self, embeddings: ItemEmbeddings, config: Model, seed: int) -> None:
        super().__init__(name="item_tower")
        self.embeddings = embeddings
        self.hidden = None
        if config.item.hidden:
            size = config.dimension
            self.hidden = HiddenLayers("item_hidden", size, config.item.hidden, size, config.item.dropout, seed + 500)
        self.built = True

    def call(self, items: Items, training: bool = False) -> Tensor:
        """Unit vectors float32 [n, dimension]."""
        summed = self.embeddings(items.features, tf.shape(items.index, tf.int64)[0], training=training)
        if self.hidden is not None:
            summed = summed + self.hidden(summed, training=training)
        return tf.math.l2_normalize(tf.cast(summed, tf.float32), axis=-1)


class ItemMatrix(keras.layers.Layer):  # type: ignore[misc]
    """Items as rows of a matrix, with a bias as the last number: vectors [n, dimension + 1], of any length.

    The output side of `tf.nn.sampled_softmax_loss`, which takes `weights_matrix` and `biases` themselves; both have a
    row for each item of the catalogue, by item_index. Attributes, and items not trained on, are nothing to it.
    """

    def __init__(self, items: int, config: Model, seed: int) -> None:
        super().__init__(name="item_matrix")
        initial = keras.initializers.RandomNormal(stddev=INITIAL_STDDEV, seed=seed)
        shape = (items, config.dimension)
        self.weights_matrix = self.add_weight(shape=shape, initializer=initial, name="weights_matrix")
        self.biases = self.add_weight(shape=(items,), initializer="zeros", name="biases")
        self.built = True

    def call(self, items: Items) -> Tensor:
        """Vectors float32 [n, dimension + 1]; what stands for padding, whose index is -1, is a row like any other."""
        rows = tf.maximum(items.index, 0)
        weights = tf.gather(tf.convert_to_tensor(self.weights_matrix), rows)
        biases = tf.gather(tf.convert_to_tensor(self.biases), rows)
        return tf.cast(tf.concat([weights, biases[:, tf.newaxis]], axis=1), tf.float32)


class UserTower(keras.layers.Layer):  # type: ignore[misc]
    """Queries as unit vectors [clicks, dimension], from user features and the state an encoder makes of the history.

    A linear map goes past the hidden layers to the output. It starts as a weighted sum of the parts of the state: a
    user starts out close to the items they had, and what follows what is learned. Opposite an `ItemMatrix` vectors are
    as long as they come, with a 1 behind them that meets the bias: [clicks, dimension + 1].
    """

    def __init__(
        self, spec: RecordSpec, config: Model, embeddings: ItemEmbeddings, seed: int, widths: Mapping[str, int]
    ) -> None:
        """widths: numbers of each user feature's vector; by its size where it is not among them."""
        super().__init__(name="user_tower")
        if not spec.user and not spec.history:
            raise ProjectError("the dataset has neither user features nor histories; give the producer one of them")
        user, dimension = config.user, config.dimension
        if not spec.history and user.encoder in ("gru", "attention"):
            raise ConfigurationError(f"model.user.encoder {user.encoder}: the dataset has no histories; leave it out")
        self.with_bias = config.item.kind == "matrix"
        self.item_embeddings = embeddings
        self.widths = {field.name: widths.get(field.name, _user_width(field, dimension)) for field in spec.user}
        self.embeddings = {
            field.name: FeatureEmbedding(field, self.widths[field.name], seed + i) for i, field in enumerate(spec.user)
        }
        width = sum(self.widths.values())
        parts: list[float] = []
        self.encoder = None
        if spec.history:
            longest = max(spec.history_length, spec.window)
            self.encoder = ENCODERS[user.encoder](user, dimension, longest, seed + 1000)
            parts = self.encoder.parts
            width += self.encoder.width
        self.linear = None
        if user.residual:
            initial = np.zeros((width, dimension))
            if not user.hidden:  # nothing else makes a vector of a user without history, and zeros have no direction
                initial += np.random.default_rng(seed + 600).normal(0, 1 / math.sqrt(width), initial.shape)
            if parts:
                initial[width - len(parts) * dimension :] = np.concatenate([part * np.eye(dimension) for part in parts])
            self.linear = self.add_weight(shape=initial.shape, initializer=constant(initial), name="linear")
        self.hidden = None
        if user.hidden or not user.residual:
            units, dropout = user.hidden or [], user.dropout or 0.0
            self.hidden = HiddenLayers("user_hidden", width, units, dimension, dropout, seed + 500)
        self.built = True

    def call(self, queries: Queries, training: bool = False) -> Tensor:
        """Vectors float32 [clicks, dimension]: of each user, or of the states that `queries.cells` names.

        In training a call begins a step: what `item.id_dropout` drops changes here, and item towers called after it
        drop the same.
        """
        if training:
            self.item_embeddings.redraw()
        users, states = tf.shape(queries.lengths, tf.int64)[0], tf.shape(queries.places, tf.int64)[1] + 1
        cells = queries.cells
        parts = [self.embeddings[name](values, users) for name, values in queries.user.items()]
        if cells is not None:
            parts = [tf.gather(part, cells // states) for part in parts]
        if self.encoder is not None:
            table = self.item_embeddings(queries.history, tf.shape(queries.index, tf.int64)[0], training=training)
            embedded = tf.gather(table, queries.places)
            state = self.encoder(embedded, queries.lengths, all_states=cells is not None, training=training)
            if cells is not None:
                state = tf.gather(tf.reshape(state, [-1, self.encoder.width]), cells)
            parts.append(state)
        inputs = tf.concat(parts, axis=1)
        summands = [] if self.hidden is None else [self.hidden(inputs, training=training)]
        if self.linear is not None:
            summands.append(tf.matmul(inputs, tf.cast(tf.convert_to_tensor(self.linear), inputs.dtype)))
        out = tf.cast(tf.add_n(summands), tf.float32)
        if self.with_bias:
            return tf.concat([out, tf.ones_like(out[:, :1])], axis=1)
        return tf.math.l2_normalize(out, axis=-1)


class TwoTowers(keras.layers.Layer):  # type: ignore[misc]
    """Both towers and the temperature between them; weights are the same for the same (spec, config, seed).

    items: of the catalogue, as an `ItemMatrix` has a row for each. widths: of user features' vectors, where they are
    those of an earlier model.
    """

    def __init__(
        self, spec: RecordSpec, config: Model, seed: int, items: int, widths: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(name="two_towers")
        matrix = config.item.kind == "matrix"
        if not matrix and not spec.item:
            raise ProjectError("the dataset has no item features; give the producer's features.item at least one")
        used = spec.history if matrix else tuple(field.name for field in spec.item)
        embeddings = ItemEmbeddings(spec.item, used, config, seed)
        self.item_tower = ItemMatrix(items, config, seed + 700) if matrix else ItemTower(embeddings, config, seed)
        self.user_tower = UserTower(spec, config, embeddings, seed + 10_000, widths or {})
        scale = constant(-math.log(config.temperature or 1.0))
        self.log_scale = self.add_weight(
            shape=(), initializer=scale, trainable=config.learn_temperature, name="log_scale"
        )
        self.built = True

    @property
    def scale(self) -> Tensor:
        """float32 scalar, what dot products are multiplied by: 1 / temperature."""
        return tf.exp(tf.cast(tf.convert_to_tensor(self.log_scale), tf.float32))

    def call(self, batch: Batch, training: bool = False) -> Tensor:
        """Logits float32 [clicks, 1 + K], the positive in column 0."""
        users = self.user_tower(batch.queries, training=training)
        items = self.item_tower(batch.items, training=training)
        return self.scale * dot_products(users, items, batch.slots)


def dot_products(users: Tensor, items: Tensor, slots: Tensor) -> Tensor:
    """[clicks, 1 + K] dot products of each user with the items in its slots; see `Batch.slots` for the two forms."""
    if slots.shape.rank == 2:
        return tf.squeeze(tf.matmul(tf.gather(items, slots), users[..., tf.newaxis]), axis=-1)
    clicks = tf.shape(users)[0]
    chosen = tf.gather(items, slots)
    own = tf.reduce_sum(users * chosen[:clicks], axis=1, keepdims=True)
    return tf.concat([own, tf.matmul(users, chosen[clicks:], transpose_b=True)], axis=1)


def _user_width(field: Field, dimension: int) -> int:
    """Numbers for a user feature: few for few values, never more than the towers' own."""
    if field.encode == "none":
        return min(dimension, 8)
    return min(dimension, max(8, 4 * round(0.4 * math.pow(field.size, 0.56))))
