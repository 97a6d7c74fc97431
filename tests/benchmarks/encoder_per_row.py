"""What people write: a loop over clicks that builds one `tf.train.Example` each, for `tf.io.TFRecordWriter`.

Written as fast as it stays plain. Negatives are drawn for thousands of clicks at once, from an alias table in numpy,
and a draw that hit the click's own item is drawn again, so drawing is not what makes it slow. Attributes are looked up
in numpy arrays and turned into lists, as protobuf takes Python numbers fastest.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLICKS_A_DRAW = 1 << 13


@dataclass(frozen=True)
class Items:
    """Attributes by item_index as the trainer wants them; tags are lists. probability: of each item to be drawn."""

    item_id: Ints
    category: Ints
    brand: Ints
    price: npt.NDArray[np.float32]
    tags: list[list[int]]
    probability: Floats


@dataclass(frozen=True)
class Clicks:
    """[clicks] each; user is the index in its vocabulary, item the item_index."""

    user: Ints
    item: Ints
    time: Ints


class Alias:
    """Walker's table in Vose's form: a draw is one number, two look-ups."""

    def __init__(self, probability: Floats) -> None:
        scaled = probability * len(probability)
        self.threshold, self.alias = np.ones(len(scaled)), np.arange(len(scaled))
        small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
        while small and large:
            low, high = small.pop(), large[-1]
            self.threshold[low], self.alias[low] = scaled[low], high
            scaled[high] -= 1 - scaled[low]
            if scaled[high] < 1:
                small.append(large.pop())

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> Ints:
        """Items of this shape."""
        number = random.random(shape) * len(self.alias)
        column = number.astype(np.int64)
        return np.where(number - column < self.threshold[column], column, self.alias[column])


def write(path: Path, clicks: Clicks, items: Items, alias: Alias, negatives: int, seed: int) -> None:
    """Writes a TFRecord file with one Example a click: its item first, then so many negatives."""
    import tensorflow as tf

    random = np.random.default_rng(seed)
    log_expected = np.log(negatives * np.maximum(items.probability, 1e-300))
    log_allowed = np.log1p(-items.probability)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for begin in range(0, len(clicks.item), CLICKS_A_DRAW):
            positive = clicks.item[begin : begin + CLICKS_A_DRAW, None]
            drawn = alias.draw(random, (len(positive), negatives))
            while (hit := drawn == positive).any():
                drawn[hit] = alias.draw(random, (int(hit.sum()),))
            candidates = np.concatenate([positive, drawn], axis=1)
            log_q = log_expected[candidates]
            log_q[:, 1:] -= log_allowed[positive]
            users = clicks.user[begin : begin + CLICKS_A_DRAW].tolist()
            times = clicks.time[begin : begin + CLICKS_A_DRAW].tolist()
            for row, user, time, own_log_q in zip(candidates, users, times, log_q, strict=True):
                tags = [items.tags[item] for item in row.tolist()]
                feature = {
                    "user.user": _ints([user]),
                    "item.item_id": _ints(items.item_id[row].tolist()),
                    "item.category": _ints(items.category[row].tolist()),
                    "item.brand": _ints(items.brand[row].tolist()),
                    "item.price": _floats(items.price[row].tolist()),
                    "item.tags": _ints(list(itertools.chain.from_iterable(tags))),
                    "item.tags.lengths": _ints([len(own) for own in tags]),
                    "item.index": _ints(row.tolist()),
                    "item.log_q": _floats(own_log_q.tolist()),
                    "click.time": _ints([time]),
                    "click.weight": _floats([1.0]),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())


def _ints(values: list[int]) -> Any:
    import tensorflow as tf

    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values: list[float]) -> Any:
    import tensorflow as tf

    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
