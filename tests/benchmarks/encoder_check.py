"""Whether what an encoder wrote is right: read by TensorFlow, held against the shop's own table.

Every candidate is told by the text of its id; all else that stands beside it must be its row of the item table. The
expected logarithms come from the counts of the log, by the formula and not by what the job says of itself.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas import codec
from schemas.record import RecordSpec
from tests.benchmarks import encoder_per_row
from tests.benchmarks.encoder_input import Shop

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """user, time: [clicks]. item: [clicks, 1 + K] indices of ids. log_q: of rows alone. bytes: of the file.

    attributes: by name, one for each of `of`, which are indices of ids; tags with how many each has.
    """

    user: Ints
    time: Ints
    item: Ints
    log_q: npt.NDArray[np.float32] | None
    of: Ints
    attributes: dict[str, npt.NDArray[Any]]
    bytes: int

    def check_same(self, other: "Candidates") -> None:
        """The same clicks with the same candidates, in any order."""
        mine, theirs = (np.sort(_rows(one.user, one.time, one.item), axis=0) for one in (self, other))
        assert np.array_equal(mine, theirs)


def candidates(path: Path, record: RecordSpec) -> Candidates:
    """The candidates in a file of rows or blocks."""
    import tensorflow as tf

    spec = codec.parse_spec(record.train_columns())
    parts: list[dict[str, Any]] = []
    for batch in tf.data.TFRecordDataset(str(path)).batch(1024 if record.layout == "row" else 1):
        parsed = tf.io.parse_example(batch, spec)
        tags = parsed["item.tags"]
        flat = {name: _flat(parsed[f"item.{name}"]) for name in ("item_id", "category", "brand", "price")}
        flat |= {"tags": _flat(tags), "tags.lengths": _flat(tags.row_lengths(axis=2))}
        part = {"user": _flat(parsed["user.user"]), "time": _flat(parsed["click.time"]), **flat}
        if record.layout == "row":
            part["item"], part["log_q"] = parsed["item.item_id"].numpy(), parsed["item.log_q"].numpy()
        else:
            slots = [_flat(parsed["block.positive"])[:, None], _flat(parsed["block.negatives"])]
            slots[1] = slots[1].reshape(-1, record.negatives)
            part["item"] = flat["item_id"][np.concatenate(slots, axis=1)]
        parts.append(part)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kept = ("category", "brand", "price", "tags", "tags.lengths")
    return Candidates(
        whole["user"], whole["time"], whole["item"], whole.get("log_q"), whole["item_id"],
        {name: whole[name] for name in kept}, path.stat().st_size,
    )  # fmt: skip


def _flat(values: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = getattr(values, "flat_values", values).numpy().reshape(-1)
    return array


def _rows(user: Ints, time: Ints, item: Ints) -> npt.NDArray[np.void]:
    rows = np.ascontiguousarray(np.concatenate([user[:, None], time[:, None], item], axis=1).astype(">i8"))
    return rows.view(f"V{rows.shape[1] * 8}").reshape(-1)


@dataclass(frozen=True)
class Truth:
    """The shop with its texts as indices of vocabularies. number: which item an id's index is; -1 is out of vocabulary.

    columns: by feature, [items by number]. tags: [items by number]. probability: [items by number] of a draw.
    """

    shop: Shop
    number: Ints
    user: dict[str, int]
    columns: dict[str, npt.NDArray[Any]]
    tags: list[list[int]]
    probability: npt.NDArray[np.float64]

    @classmethod
    def of(cls, shop: Shop, vocabularies: dict[str, list[str]]) -> "Truth":
        index = {name: {value: i for i, value in enumerate(values)} for name, values in vocabularies.items()}
        number_of = {value: i for i, value in enumerate(shop.items["item_id"].to_pylist())}
        number = np.array([number_of.get(value, -1) for value in vocabularies["item_id"]])
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.array([index[name].get(value, 0) for value in shop.items[name].to_pylist()])
            for name in ("item_id", "category", "brand")
        }
        columns["price"] = shop.items["price"].to_numpy().astype(np.float32)
        tags = [[index["tags"].get(tag, 0) for tag in own] for own in shop.items["tags"].to_pylist()]
        weight = np.bincount(shop.item, minlength=shop.items.num_rows) ** 0.75
        return cls(shop, number, index["user"], columns, tags, weight / weight.sum())

    def for_loop(self) -> encoder_per_row.Items:
        """What the loop looks attributes up in, by item_index."""
        order = self._order
        own = {name: values[order] for name, values in self.columns.items()}
        return encoder_per_row.Items(**own, tags=[self.tags[i] for i in order], probability=self.probability[order])

    def clicks(self, sample: Shop) -> encoder_per_row.Clicks:
        """The clicks as the loop takes them."""
        index = np.empty(len(self.tags), np.int64)
        index[self._order] = np.arange(len(self.tags))
        return encoder_per_row.Clicks(self._users(sample), index[sample.item], sample.time)

    def check(self, found: Candidates, sample: Shop, count: int) -> None:
        """Raises where candidates are not the sample's clicks, each first among `count` of others, with their rows."""
        item = self.number[found.item]
        assert (item >= 0).all()
        assert item.shape == (len(sample.item), 1 + count)
        assert not (item[:, 1:] == item[:, :1]).any()
        clicked = _rows(found.user, found.time, item[:, :1])
        wanted = _rows(self._users(sample), sample.time, sample.item[:, None])
        assert np.array_equal(np.sort(clicked), np.sort(wanted))
        of = self.number[found.of]
        for name in ("category", "brand", "price"):
            assert np.array_equal(found.attributes[name], self.columns[name][of]), name
        own = [self.tags[i] for i in of.tolist()]
        assert found.attributes["tags.lengths"].tolist() == [len(tags) for tags in own]
        assert found.attributes["tags"].tolist() == list(itertools.chain.from_iterable(own))
        if found.log_q is not None:
            q = self.probability[item]
            expected = np.log(count * q)
            expected[:, 1:] -= np.log1p(-q[:, :1])
            assert np.allclose(found.log_q, expected, rtol=0, atol=1e-5)

    @property
    def _order(self) -> Ints:
        counts = np.bincount(self.shop.item, minlength=len(self.tags))
        return np.lexsort((np.arange(len(counts)), -counts))

    def _users(self, sample: Shop) -> Ints:
        return np.array([self.user[value] for value in sample.user.astype(str).tolist()])
