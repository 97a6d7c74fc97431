"""What a finished dataset is made of, as distributions: the figures that two days are compared by.

Items and their features count by training clicks, exactly, from items/; users' features by the clicks of the first
train records, which lie in shuffled order and so are a fair sample. Costs a pass over items/ in Python (some 30 us an
item), its features in memory, and the decoding of the sample. Every shard is verified before it is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines import contents, readable
from schemas.manifest import Dataset
from schemas.record import Field

Floats = npt.NDArray[np.float64]

SAMPLE_CLICKS = 5_000


@dataclass(frozen=True)
class Counted:
    """Clicks by value."""

    clicks: dict[str, float]


@dataclass(frozen=True)
class Bucketed:
    """Clicks [2 + edges] by bucket: missing, below the first edge, and from each edge on."""

    edges: tuple[float, ...]
    clicks: Floats


@dataclass(frozen=True)
class Dense:
    """Mean and standard deviation [width] of numbers, over so many clicks."""

    clicks: float
    mean: Floats
    deviation: Floats


Distribution = Counted | Bucketed | Dense


@dataclass(frozen=True)
class Distributions:
    """clicks: training clicks. by_name: "items", "history lengths", "item.<feature>", "user.<feature>".

    users: the vocabulary that names users, None for none. Which users come is no drift, so it is no distribution
    either; nor is the one that names items, as that is "items" already.
    """

    name: str
    clicks: int
    rows: Mapping[str, Mapping[str, int]]
    rejected: Mapping[str, int]
    vocabularies: Mapping[str, frozenset[str]]
    by_name: Mapping[str, Distribution]
    users: str | None = None

    @classmethod
    def of(cls, dataset: Dataset, sample_clicks: int = SAMPLE_CLICKS) -> "Distributions":
        """Those of a dataset.

        Raises:
          CorruptDataset: a file that was read is not what the manifest says.
        """
        manifest = dataset.manifest
        words = {name: dataset.vocabulary(name) for name in manifest.vocabulary}
        lengths = manifest.statistics.get("history_lengths", {"edges": [], "clicks": []})
        histories = {f"from {edge:,}": float(n) for edge, n in zip(lengths["edges"], lengths["clicks"], strict=False)}
        found: dict[str, Distribution] = {"history lengths": Counted(histories)} if manifest.record.history else {}
        names = _names(dataset)
        train = manifest.splits["train"]
        return cls(
            name=dataset.root.name,
            clicks=train.clicks // max(train.epochs, 1),
            rows=manifest.rows,
            rejected=manifest.rejected,
            vocabularies={name: frozenset(values[1:]) for name, values in words.items()},
            by_name={**_of_items(dataset, words), **_of_users(dataset, words, sample_clicks), **found},
            users=next((name for name in names if name in {field.name for field in manifest.record.user}), None),
        )


def _names(dataset: Dataset) -> set[str]:
    """Features that are what a user or an item is called."""
    config, record = dataset.manifest.config, dataset.manifest.record
    users = {config.get("clicks", {}).get("user"), config.get("users", {}).get("key")} - {None}
    items = {config.get("items", {}).get("key")} - {None}
    told = [(field, users) for field in record.user] + [(field, items) for field in record.item]
    return {field.name for field, columns in told if field.encode == "vocabulary" and field.column in columns}


def _of_items(dataset: Dataset, words: Mapping[str, list[str]]) -> dict[str, Distribution]:
    spec = dataset.manifest.record
    keys: list[str] = []
    counts: list[float] = []
    fields = [field for field in spec.item if field.name not in _names(dataset)]
    values: dict[str, list[npt.NDArray[Any]]] = {field.name: [] for field in fields}
    for item in readable.every_item(dataset):
        keys.append(item.key)
        counts.append(float(item.count))
        for name, column in values.items():
            column.append(item.features[name])
    clicks = np.array(counts, np.float64)
    found: dict[str, Distribution] = {"items": Counted(dict(zip(keys, counts, strict=True)))}
    for field in fields:
        found[f"item.{field.name}"] = _distribution(field, values[field.name], clicks, words)
    return found


def _of_users(dataset: Dataset, words: Mapping[str, list[str]], most: int) -> dict[str, Distribution]:
    fields = [field for field in dataset.manifest.record.user if field.name not in _names(dataset)]
    if not fields or not most:
        return {}
    users = [click.user for click in islice(_train_clicks(dataset), most)]
    each = np.ones(len(users))
    return {f"user.{f.name}": _distribution(f, [user[f.name] for user in users], each, words) for f in fields}


def _train_clicks(dataset: Dataset) -> Iterator[contents.Click]:
    for record in readable.decoded(dataset, "train"):
        yield from contents.clicks(record, dataset.manifest.record)


def _distribution(
    field: Field, values: list[npt.NDArray[Any]], clicks: Floats, words: Mapping[str, list[str]]
) -> Distribution:
    """That of a feature whose values each belong to so many clicks."""
    if field.encode == "none":
        return _dense(np.array(values, np.float64).reshape(len(values), -1), clicks)
    lengths = np.array([len(one) for one in values], np.int64)
    flat = np.concatenate(values) if values else np.zeros(0, np.int64)
    weights = np.repeat(clicks, lengths)
    if field.encode == "buckets":
        edges = tuple(field.boundaries or ())
        return Bucketed(edges, np.bincount(flat, weights, minlength=len(edges) + 2).astype(np.float64))
    names = words[field.name]
    totals = np.bincount(flat, weights, minlength=len(names))
    counted = {name: float(total) for name, total in zip(names, totals, strict=False) if total}
    empty = float(clicks[lengths == 0].sum())
    return Counted(counted | ({readable.MISSING: empty} if empty else {}))


def _dense(numbers: Floats, clicks: Floats) -> Dense:
    total = float(clicks.sum())
    if not total:
        return Dense(0.0, np.zeros(numbers.shape[1]), np.zeros(numbers.shape[1]))
    mean = clicks @ numbers / total
    return Dense(total, mean, np.sqrt(clicks @ (numbers - mean) ** 2 / total))
