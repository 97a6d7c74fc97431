"""Whether a job's records hold what they should: read with plain TensorFlow, held against the inputs, nothing of ours.

The same questions for all jobs: as many records as clicks, the clicks themselves as positives, each candidate with the
attributes of its own row in the item table, never the clicked item among its negatives, negatives as often as the
proposal says. What is found wrong is told in words; nothing found is an empty list.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LARGEST_Z = 6.0  # of a chi-square against its degrees of freedom, in standard deviations


@dataclass(frozen=True)
class Records:
    """n clicks with C candidates, the positive first; attributes one candidate after the other.

    user, time: [n]. item: [n, C] row in the item table. log_q: [n, C]. category, brand: texts [n * C]. price: [n * C].
    tags: a list of texts joined by spaces, [n * C].
    """

    user: Ints
    time: Ints
    item: Ints
    log_q: Floats
    category: npt.NDArray[Any]
    brand: npt.NDArray[Any]
    price: npt.NDArray[np.float32]
    tags: npt.NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """The clicks (user, item row, time), and the item table's attributes in the same form as `Records` has them."""

    user: Ints
    item: Ints
    time: Ints
    category: npt.NDArray[Any]
    brand: npt.NDArray[Any]
    price: npt.NDArray[np.float32]
    tags: npt.NDArray[Any]

    @classmethod
    def read(cls, folder: Path) -> "Inputs":
        """From clicks.parquet and items.parquet; row r holds item r + 1."""
        import pyarrow.parquet as pq

        clicks, items = pq.read_table(folder / "clicks.parquet"), pq.read_table(folder / "items.parquet")
        texts = {name: np.array(items[name].to_pylist(), object) for name in ("category", "brand")}
        return cls(
            clicks["user_id"].to_numpy(), clicks["item_id"].to_numpy() - 1, clicks["timestamp"].to_numpy(),
            texts["category"], texts["brand"], items["price"].to_numpy(),
            np.array([" ".join(tags) for tags in items["tags"].to_pylist()], object),
        )  # fmt: skip

    @property
    def probability(self) -> Floats:
        """[items] clicks to the power 0.75, as the jobs draw."""
        weight = np.bincount(self.item, minlength=len(self.brand)) ** 0.75
        summed: Floats = weight / weight.sum()
        return summed

    def expected(self, draws: int) -> Floats:
        """[items] negatives that so many draws a click give, each never its own item."""
        q = self.probability
        clicks = np.bincount(self.item, minlength=len(q))
        share = clicks / (1 - q)
        expected: Floats = draws * q * (share.sum() - share)
        return expected


@dataclass
class Found:
    """What the records of a job were seen to be, summed over batches."""

    records: int
    problems: dict[str, int]
    positives: list[Ints]
    negatives: Ints
    worst_log_q: float = 0.0

    @classmethod
    def nothing(cls, inputs: Inputs) -> "Found":
        return cls(0, {}, [], np.zeros(len(inputs.brand), np.int64))

    def add(self, records: Records, inputs: Inputs) -> None:
        """Takes a batch into account."""
        item = records.item.reshape(-1)
        for name in ("category", "brand", "price", "tags"):
            wrong = int((getattr(records, name) != getattr(inputs, name)[item]).sum())
            self._problem(f"candidates with another item's {name}", wrong)
        self._problem(
            "negatives that are the click's own item", int((records.item[:, 1:] == records.item[:, :1]).sum())
        )
        q, count = inputs.probability, records.item.shape[1] - 1
        told = np.log(count) + np.log(q[records.item])
        told[:, 1:] -= np.log1p(-q[records.item[:, :1]])
        self.worst_log_q = max(self.worst_log_q, float(np.abs(told - records.log_q).max(initial=0)))
        self.records += len(records.user)
        self.positives.append(np.stack([records.user, records.item[:, 0], records.time]))
        self.negatives += np.bincount(records.item[:, 1:].reshape(-1), minlength=len(q))

    def _problem(self, what: str, count: int) -> None:
        if count:
            self.problems[what] = self.problems.get(what, 0) + count

    def verdict(self, inputs: Inputs, count: int) -> tuple[list[str], dict[str, float]]:
        """(what is wrong, figures of the negatives' popularity) once all records are in."""
        wrong = [f"{number} {what}" for what, number in self.problems.items()]
        if self.records != len(inputs.user):
            wrong.append(f"{self.records} records for {len(inputs.user)} clicks")
        clicks = np.stack([inputs.user, inputs.item, inputs.time])
        found = np.concatenate(self.positives, axis=1) if self.positives else clicks[:, :0]
        if found.shape != clicks.shape or not np.array_equal(_sorted(found), _sorted(clicks)):
            wrong.append("the positives are not the clicks")
        if self.worst_log_q > 1e-3:
            wrong.append(f"log_q is off by {self.worst_log_q:.3g}")
        figures = popularity(self.negatives, inputs.expected(count))
        if abs(figures["z"]) > LARGEST_Z:
            wrong.append(f"negatives are not drawn as declared: chi-square {figures['z']:.1f} deviations off")
        return wrong, figures


def popularity(observed: Ints, expected: Floats) -> dict[str, float]:
    """How far counts of negatives [items] are from what was expected: chi-square in deviations `z`, and `kl` in nats.

    Items expected less than five times are taken together.
    """
    rare = expected < 5
    told = np.append(expected[~rare], expected[rare].sum())
    seen = np.append(observed[~rare], observed[rare].sum())
    told, seen = told[told > 0], seen[told > 0]
    square, freedom = float(((seen - told) ** 2 / told).sum()), max(len(told) - 1, 1)
    p, q = seen / max(seen.sum(), 1), told / told.sum()
    kl = float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
    return {"chi_square": square, "degrees": freedom, "z": (square - freedom) / (2 * freedom) ** 0.5, "kl": kl}


def read(files: Sequence[Path], vocabulary: Path, count: int, user_coded: bool) -> Iterator[Records]:
    """Batches of the records of layout `row`, by `tf.io.parse_example` alone.

    vocabulary: folder of <feature>.txt, line i what code i means. user_coded: whether users are codes too.
    """
    import tensorflow as tf

    names = {path.stem: np.array(path.read_text("utf-8").splitlines(), object) for path in vocabulary.glob("*.txt")}
    rows = np.concatenate([[0], names["item_id"][1:].astype(np.int64)]) - 1
    users = np.concatenate([[0], names["user_id"][1:].astype(np.int64)]) if user_coded else None
    dense = {name: tf.io.FixedLenFeature([count + 1], tf.int64) for name in ("item_id", "category", "brand")}
    spec = {f"item.{name}": kind for name, kind in dense.items()} | {
        "item.price": tf.io.FixedLenFeature([count + 1], tf.float32),
        "item.log_q": tf.io.FixedLenFeature([count + 1], tf.float32),
        "item.tags": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        "item.tags.lengths": tf.io.FixedLenFeature([count + 1], tf.int64),
        "user.user_id": tf.io.FixedLenFeature([], tf.int64),
        "click.time": tf.io.FixedLenFeature([], tf.int64),
    }
    for batch in tf.data.TFRecordDataset([str(path) for path in files]).batch(4096):
        parsed = tf.io.parse_example(batch, spec)
        values: Mapping[str, Any] = {
            key: value.numpy() for key, value in parsed.items() if not isinstance(value, tf.RaggedTensor)
        }
        lengths, tags = values["item.tags.lengths"].reshape(-1), names["tags"][parsed["item.tags"].values.numpy()]
        yield Records(
            values["user.user_id"] if users is None else users[values["user.user_id"]],
            values["click.time"],
            rows[values["item.item_id"]],
            values["item.log_q"].astype(np.float64),
            names["category"][values["item.category"].reshape(-1)],
            names["brand"][values["item.brand"].reshape(-1)],
            values["item.price"].reshape(-1),
            joined(tags, lengths),
        )


def joined(texts: npt.NDArray[Any], lengths: Ints) -> npt.NDArray[Any]:
    """Runs of texts, each joined by spaces."""
    ends = np.cumsum(lengths)
    parts = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    return np.array([" ".join(texts[begin:end]) for begin, end in parts], object)


def _sorted(clicks: Ints) -> Ints:
    order = np.lexsort(clicks)
    found: Ints = clicks[:, order]
    return found


def told(said: Path, code: int) -> tuple[list[str], dict[str, float]]:
    """What `main` printed last, or that it failed."""
    lines = said.read_text("utf-8", "replace").strip().splitlines()
    if code or not lines:
        return [f"the check failed: {lines[-1] if lines else 'it said nothing'}"], {}
    wrong, figures = json.loads(lines[-1])
    return wrong, figures


def main(log: str, vocabulary: str, count: str, *files: str) -> None:
    """Prints the verdict on some files as one line of JSON."""
    inputs = Inputs.read(Path(log))
    found = Found.nothing(inputs)
    coded = (Path(vocabulary) / "user_id.txt").exists()
    for records in read([Path(file) for file in files], Path(vocabulary), int(count), coded):
        found.add(records, inputs)
    print(json.dumps(found.verdict(inputs, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
