"""Records as a person reads them: indices looked up in vocabularies, items by their titles.

Shared by report.html and by `python -m pipelines.inspect`. Reads a shard only after its checksum was found right. Costs
the vocabularies in memory and one pass over items/ for the titles of what is shown.
"""

import dataclasses
import datetime as dt
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from pipelines import contents
from pipelines.contents import Click, Entity, Item
from schemas import codec, tfrecord
from schemas.errors import CorruptDataset
from schemas.manifest import PER_SECOND, Dataset, Shard, Split
from schemas.record import Field

MISSING = "(none)"


@dataclass(frozen=True)
class Candidate:
    """role: positive, negative or masked. `log_q` is none for held-out clicks."""

    role: str
    index: int
    name: str
    features: dict[str, str]
    log_q: float | None


@dataclass(frozen=True)
class ReadableClick:
    """history: names, most recent last, after `earlier` ones that are not shown; nor are `further` candidates."""

    user: dict[str, str]
    time: str
    weight: float
    history: list[str]
    earlier: int
    candidates: list[Candidate]
    further: int
    masked: int
    known: int | None = None


@dataclass(frozen=True)
class ReadableRecord:
    """Some of the `clicks_total` clicks of one record, or its one item. key_bytes: what each key takes of `bytes`."""

    shard: str
    number: int
    bytes: int
    clicks_total: int = 0
    clicks: list[ReadableClick] = field(default_factory=list)
    key_bytes: dict[str, int] = field(default_factory=dict)
    item: Item | None = None
    item_features: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """How much of a record is shown."""

    clicks: int = 3
    history: int = 8
    candidates: int = 8


def records(dataset: Dataset, name: str, count: int, shown: Shown | None = None) -> list[ReadableRecord]:
    """The first `count` records of a split, or of the catalogue where the name is items.

    Train records lie in shuffled order, so that the first ones are a fair sample.

    Raises:
      CorruptDataset: a shard that was read, or items/, is not what the manifest says; the message names the file.
    """
    shown = shown or Shown()
    split = dataset.manifest.items if name == "items" else dataset.manifest.splits[name]
    spec = dataset.manifest.record
    values = Values(dataset)
    found: list[tuple[Shard, int, bytes]] = list(islice(_framed(dataset, split), count))
    if name == "items":
        out = []
        for shard, number, record in found:
            item = contents.item(_decoded(record, shard, number), spec)
            out.append(
                ReadableRecord(
                    shard.path, number, len(record), item=item, item_features=values.of(item.features, spec.item)
                )
            )
        return out
    taken: list[tuple[ReadableRecord, list[Click]]] = []
    for shard, number, record in found:
        decoded = _decoded(record, shard, number)
        try:
            clicks = list(contents.clicks(decoded, spec, held_out=name != "train"))
        except CorruptDataset as error:
            raise CorruptDataset(f"{shard.path}, record {number}: {error}") from error
        head = ReadableRecord(shard.path, number, len(record), len(clicks), key_bytes=contents.key_bytes(decoded))
        taken.append((head, clicks[: shown.clicks]))
    names = Names(dataset, values, [click for _, clicks in taken for click in clicks], shown)
    return [
        dataclasses.replace(head, clicks=[_readable(click, values, names, shown, dataset) for click in clicks])
        for head, clicks in taken
    ]


def _readable(click: Click, values: "Values", names: "Names", shown: Shown, dataset: Dataset) -> ReadableClick:
    manifest = dataset.manifest
    candidates = []
    for position in range(min(len(click.slots), 1 + shown.candidates)):
        role = "positive" if position == 0 else "masked" if click.masked[position] else "negative"
        index = int(click.index[position])
        features = values.of(click.table[int(click.slots[position])], manifest.record.item)
        log_q = None if click.log_q is None else float(click.log_q[position])
        candidates.append(Candidate(role, index, names.of_item(index), features, log_q))
    history = names.of_history(click, shown.history)
    total = len(click.history) if click.history_index is None else len(click.history_index)
    return ReadableClick(
        user=values.of(click.user, manifest.record.user),
        time=moment(click.time, manifest.time_unit),
        weight=click.weight,
        history=history,
        earlier=total - len(history),
        candidates=candidates,
        further=len(click.slots) - len(candidates),
        masked=int(click.masked.sum()),
        known=None if click.known is None else len(click.known),
    )


class Values:
    """Stored values in words, by the vocabularies and boundaries of a dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._vocabularies: dict[str, list[str]] = {}

    def of(self, entity: Entity, fields: tuple[Field, ...]) -> dict[str, str]:
        """Words by feature."""
        return {field.name: self.word(field, entity[field.name]) for field in fields if field.name in entity}

    def word(self, field: Field, values: npt.NDArray[np.generic]) -> str:
        """One feature's values as text."""
        if field.encode == "none":
            numbers = [f"{float(value):.4g}" for value in values[:4]]
            rest = f", ... {len(values)} numbers" if len(values) > 4 else ""
            return numbers[0] if field.shape == "scalar" else f"[{', '.join(numbers)}{rest}]"
        words = [
            self._bucket(field, int(value)) if field.encode == "buckets" else self._value(field, int(value))
            for value in values
        ]
        return ", ".join(words) or MISSING

    def _value(self, field: Field, index: int) -> str:
        if field.name not in self._vocabularies:
            self._vocabularies[field.name] = self._dataset.vocabulary(field.name)
        known = self._vocabularies[field.name]
        return printable(known[index]) if 0 <= index < len(known) else f"index {index} beyond the vocabulary"

    @staticmethod
    def _bucket(field: Field, index: int) -> str:
        edges = field.boundaries or ()
        if index <= 0 or not edges:
            return MISSING if index <= 0 else "any"
        if index == 1:
            return f"< {edges[0]:g}"
        return f"≥ {edges[-1]:g}" if index > len(edges) else f"{edges[index - 2]:g} to < {edges[index - 1]:g}"


class Names:
    """Names of the items that some clicks show.

    Train records hold no item_index for a history, so its items are told by the feature that encodes the items' key:
    that vocabulary is ordered as the catalogue is, and the item found there counts only if it has this very index.
    Without such a feature, or beyond its vocabulary, a history shows its features instead.
    """

    def __init__(self, dataset: Dataset, values: Values, clicks: list[Click], shown: Shown) -> None:
        self._values, self._spec = values, dataset.manifest.record
        key = dataset.manifest.config.get("items", {}).get("key")
        scalars = [
            field for field in self._spec.history_fields if field.encode == "vocabulary" and field.shape == "scalar"
        ]
        self._key = next((field for field in scalars if field.column == key), None)
        wanted: set[int] = set()
        for click in clicks:
            wanted.update(click.index[: 1 + shown.candidates].tolist())
            wanted.update(click.history_index[-shown.history :].tolist() if click.history_index is not None else ())
            if self._key is not None:
                wanted.update(int(entity[self._key.name][0]) - 1 for entity in click.history[-shown.history :])
        self._items = items(dataset, wanted)

    def of_item(self, index: int) -> str:
        """The name of an item of the catalogue."""
        return printable(self._items[index].name) if index in self._items else f"item {index}"

    def of_history(self, click: Click, most: int) -> list[str]:
        """Names of the latest items of a history, most recent last."""
        if click.history_index is not None:
            return [self.of_item(index) for index in click.history_index[-most:].tolist()]
        return [self._of_features(entity) for entity in click.history[-most:]]

    def _of_features(self, entity: Entity) -> str:
        if self._key is not None:
            index = int(entity[self._key.name][0])
            item = self._items.get(index - 1)
            if item is not None and int(item.features[self._key.name][0]) == index:
                return printable(item.name)
        return "; ".join(self._values.of(entity, self._spec.history_fields).values())


def items(dataset: Dataset, wanted: set[int]) -> dict[int, Item]:
    """Items of the catalogue by item_index, in which order their records lie; only these are read and decoded."""
    found, begin = dict[int, Item](), 0
    for shard in dataset.manifest.items.shards:
        numbers = sorted(index - begin for index in wanted if 0 <= index - begin < shard.records)
        read = _frames_of(dataset, shard, frozenset(numbers)) if numbers else iter(())
        for number, record in zip(numbers, read, strict=False):  # nothing is read behind the last of them
            found[begin + number] = contents.item(_decoded(record, shard, number), dataset.manifest.record)
        begin += shard.records
    return found


def item_keys(dataset: Dataset) -> Iterator[str]:
    """The ids of all items of the catalogue as text, by item_index."""
    for shard, number, record in _framed(dataset, dataset.manifest.items):
        found = codec.decode_one(record, "item.key")
        if not isinstance(found, list) or len(found) != 1:
            raise CorruptDataset(f"{shard.path}, record {number}: item.key: one text expected")
        yield found[0].decode("utf-8", "replace")


def every_item(dataset: Dataset) -> Iterator[Item]:
    """The whole catalogue, in the order of item_index."""
    return (contents.item(record, dataset.manifest.record) for record in decoded(dataset, "items"))


def decoded(dataset: Dataset, name: str) -> Iterator[dict[str, codec.Decoded]]:
    """Every record of a split, or of the catalogue where the name is items, as its values by key."""
    split = dataset.manifest.items if name == "items" else dataset.manifest.splits[name]
    return (_decoded(record, shard, number) for shard, number, record in _framed(dataset, split))


def printable(text: str) -> str:
    """Text without what could move a terminal's cursor or break a line."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def moment(time: int, unit: str) -> str:
    """A click's time in UTC, or the number itself where it is no time of this calendar."""
    try:
        seconds, rest = divmod(time, PER_SECOND[unit])
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(seconds=rest / PER_SECOND[unit])
    except (KeyError, ValueError, OverflowError, OSError):
        return str(time)
    return moment.strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def _framed(dataset: Dataset, split: Split) -> Iterator[tuple[Shard, int, bytes]]:
    """(shard, number in it, record) of a split; each shard is verified before its first record."""
    for shard in split.shards:
        for number, record in enumerate(_frames_of(dataset, shard)):
            yield shard, number, record


def _frames_of(dataset: Dataset, shard: Shard, only: frozenset[int] | None = None) -> Iterator[bytes]:
    dataset.check(shard)
    with dataset.opened(shard) as stored:
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stored)) if shard.path.endswith(".gz") else stored
        yield from tfrecord.read_frames(stream, shard.path, only=only)


def _decoded(record: bytes, shard: Shard, number: int) -> dict[str, codec.Decoded]:
    try:
        return codec.decode(record)
    except CorruptDataset as error:
        raise CorruptDataset(f"{shard.path}, record {number}: {error}") from error
