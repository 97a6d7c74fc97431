"""The item table as items/ has it: attributes, training clicks and keys by `item_index`.

Every candidate is held against it, and the declared proposal is computed from its counts. It is read on the driver and
goes to the workers: some 100 bytes an item.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.auditing import examples
from pipelines.auditing.clicks import Table
from pipelines.auditing.findings import Findings
from pipelines.auditing.frames import ShardFile
from pipelines.auditing.shapes import Record
from schemas.manifest import Dataset
from schemas.record import Field

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Items:
    """n items by item_index.

    counts: [n] training clicks. frequency: [n] what proposals count, the same where nothing else is stored. rank: [n]
    position by key, which orders clicks of one time. values, lengths: by feature, as in `Table`. identity: the feature
    that tells items apart, None for none. gone: [n] whether each has left the item table. limits: ([n] moment from
    which, [n] moment before which) each can be had, None where that is not told.
    """

    counts: Ints
    frequency: npt.NDArray[np.float64]
    keys: list[str]
    rank: Ints
    fields: tuple[Field, ...]
    values: dict[str, npt.NDArray[Any]]
    lengths: dict[str, Ints]
    identity: str | None
    gone: Bools
    limits: tuple[Ints, Ints] | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def resolved(self, table: Table) -> Ints:
        """[t] item_index of a table's items: its own, else by the feature that tells items apart, -1 where unknown."""
        if (table.index >= 0).all() or self.identity is None or self.identity not in table.values:
            return table.index
        told = self.values[self.identity]
        by_value = np.full(int(told.max(initial=0)) + 1, -1, np.int64)
        by_value[told] = np.arange(len(told))
        by_value[0] = -1
        value = table.values[self.identity]
        inside = (value > 0) & (value < len(by_value))
        return np.where(inside, by_value[np.where(inside, value, 0)], -1)

    def unavailable(self, index: Ints, time: Ints) -> Bools:
        """Whether each item could not be had at the time beside it; False where no limits are told."""
        if self.limits is None:
            return np.zeros(np.broadcast_shapes(index.shape, time.shape), bool)
        begin, end = self.limits
        return (time < begin[index]) | (time >= end[index])

    def differing(self, table: Table, name: str, index: Ints) -> Bools:
        """[t] whether a table's items differ in one feature from those at `index` here; unknown ones do not."""
        index, known = np.maximum(index, 0), index >= 0
        mine, theirs = self.values[name], table.values[name]
        if theirs.dtype == np.float32:
            mine, theirs = mine.view(np.int32), theirs.view(np.int32)
        if name not in self.lengths:
            dense: Bools = (mine.reshape(len(self), -1)[index] != theirs.reshape(len(index), -1)).any(axis=1)
            return known & dense
        lengths = table.lengths[name]
        differing: Bools = lengths != self.lengths[name][index]
        owner = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
        start = np.cumsum(self.lengths[name]) - self.lengths[name]
        same = ~differing[owner]
        other = mine[start[index[owner[same]]] + within[same]] != theirs[same]
        differing |= np.bincount(owner[same][other], minlength=len(lengths)) > 0
        return known & differing


def read(dataset: Dataset, findings: Findings) -> tuple[Items | None, dict[str, tuple[int, int, int, int]]]:
    """(the item table, (bytes, crc32c, records, clicks) by shard); no table where items/ does not hold one."""
    manifest, records, sizes = dataset.manifest, [], {}
    for shard in manifest.items.shards:
        file, number = ShardFile(dataset.location(shard)), 0
        for where, _, record in examples.of_frames(file.frames(), shard.path, findings):
            number += 1
            if record is None:
                continue
            complaint = _problem(record, manifest.record.item)
            if complaint:
                findings.add("format", f"{where}: {complaint}")
            else:
                records.append(record)
        sizes[shard.path] = (file.bytes, file.crc32c, number, 0)
    findings.looked("items", len(records))
    index = np.array([np.asarray(record["item.index"])[0] for record in records], np.int64)
    if len(index) != manifest.items.records or not np.array_equal(np.sort(index), np.arange(len(index))):
        findings.add("items", f"items/: item_index 0 to {manifest.items.records - 1} expected once each; "
                               f"{len(index)} readable records, {len(np.unique(index))} different, found")  # fmt: skip
        return None, sizes
    records = [records[place] for place in np.argsort(index)]
    inherited = int(manifest.statistics.get("inherited", {}).get("items", 0))  # which keep the order they had
    items = _table(records, manifest.record.item, _key_column(manifest.config), inherited)
    falling = np.diff(items.counts[inherited:])
    findings.add("items", (
        f"items/: item_index {inherited + i + 1} has {items.counts[inherited + i + 1]} training clicks, "
        f"{inherited + i} before it has {items.counts[inherited + i]}" for i in np.flatnonzero(falling > 0)[:20]
    ), int((falling > 0).sum()))  # fmt: skip
    clicked = np.flatnonzero(items.gone & (items.counts > 0))
    findings.add("items", (
        f"items/: item_index {i} is gone, but has {items.counts[i]} training clicks" for i in clicked[:20]
    ), len(clicked))  # fmt: skip
    return items, sizes


def _problem(record: Record, fields: tuple[Field, ...]) -> str:
    for key in ("item.index", "item.count", "item.key", *(f"item.{field.name}" for field in fields)):
        if key not in record:
            return f"it has no {key}"
    for key in ("item.index", "item.count", "item.key"):
        if len(record[key]) != 1:
            return f"{key}: one value expected, {len(record[key])} found"
    for field in fields:
        found = record[f"item.{field.name}"]
        if isinstance(found, list) or (len(found) and str(found.dtype) != field.dtype):
            return f"item.{field.name}: {field.dtype} expected"
        if field.width is not None and len(found) != field.width:
            return f"item.{field.name}: {field.width} values expected, {len(found)} found"
    return ""


def _table(records: list[Record], fields: tuple[Field, ...], key_column: str, inherited: int) -> Items:
    def one(key: str) -> npt.NDArray[Any]:
        return np.array([np.asarray(record[key])[0] for record in records])

    counts = one("item.count").astype(np.int64)
    stored = bool(records) and "item.frequency" in records[0]
    keys = [bytes(np.asarray(record["item.key"], object)[0]).decode("utf-8", "replace") for record in records]
    values = {f.name: np.concatenate([np.asarray(record[f"item.{f.name}"]) for record in records]) for f in fields}
    lengths = {
        f.name: np.array([len(record[f"item.{f.name}"]) for record in records], np.int64)
        for f in fields if f.width is None
    }  # fmt: skip
    identity = next((f.name for f in fields if f.encode == "vocabulary" and f.column == key_column and f.width), None)
    frequency = one("item.frequency").astype(np.float64) if stored else counts.astype(np.float64)
    told = bool(records) and "item.gone" in records[0]
    gone = one("item.gone").astype(bool) if told else np.zeros(len(records), bool)
    rank = _rank(keys, counts, inherited)
    return Items(counts, frequency, keys, rank, fields, values, lengths, identity, gone)


def _key_column(config: dict[str, Any]) -> str:
    return str(config.get("items", {}).get("key", ""))


def _rank(keys: list[str], counts: Ints, inherited: int = 0) -> Ints:
    """[items] position by key: as numbers where all are, unless items of equal counts stand in the order of text.

    inherited: so many first items stand in the order of an earlier day's counts, which say nothing of it.
    """
    orders: list[list[Any]] = [[key.encode() for key in keys]]
    if all(key.isascii() and key.removeprefix("-").isdigit() for key in keys):
        orders.insert(0, [int(key) for key in keys])
    rank = np.zeros(len(keys), np.int64)
    for values in orders:
        order = sorted(range(len(values)), key=values.__getitem__)
        rank[order] = np.arange(len(order))
        if (np.diff(rank[inherited:])[np.diff(counts[inherited:]) == 0] > 0).all():
            return rank
    return rank
