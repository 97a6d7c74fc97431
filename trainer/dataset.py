"""Reads a finished dataset with tf.data: the shards its manifest names, checked once, in an order the seed decides.

A training epoch e reads the negatives of set e mod epochs, so clicks meet other negatives as long as the dataset has
some. Records are parsed after batching (one parse of 512 rows costs a tenth of 512 parses).
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import codec, storage
from schemas.errors import CorruptDataset, ProjectError
from schemas.manifest import Dataset, Shard, Split
from schemas.record import RecordSpec
from trainer import batches, cache
from trainer.batches import Batch, Items, Queries

log = logging.getLogger(__name__)

BLOCK_BUFFER = 256
READ_BATCH = 1024
READ_ERRORS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError)
READ_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class HeldOut:
    """A validation or test split in memory but for its queries. Ragged columns are (values, row lengths).

    positive: int64 [n], item_index. time: int64 [n]. key: n user ids as bytes.
    exclude: item_index of what each user had before. history: item_index, oldest first.
    """

    positive: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    key: list[bytes]
    exclude: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    history: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    queries: list[Queries] = field(repr=False)

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True)
class Catalogue:
    """items/ in memory, in the order of item_index. count: int64 [n] training clicks; key, title: bytes.

    gone: [n] items that keep their index but have left the item table; they are not ranked. None where there are none.
    """

    count: npt.NDArray[np.int64]
    key: list[bytes]
    title: list[bytes]
    items: list[Items] = field(repr=False)
    gone: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.count)

    @property
    def popularity(self) -> npt.NDArray[np.int64]:
        """[n] place of each item by falling training clicks: its index, unless indices are inherited."""
        places = np.empty(len(self), np.int64)
        places[np.argsort(-self.count, kind="stable")] = np.arange(len(self))
        return places

    def name(self, index: int) -> str:
        """What a person calls an item: its title, else its id."""
        return (self.title[index] or self.key[index]).decode("utf-8", "replace")


def open_verified(uri: str, splits: tuple[str, ...] = ("train", "validation", "test")) -> Dataset:
    """The dataset, once every shard and vocabulary that will be read has the size and CRC-32C of the manifest.

    One on an object store comes as a copy on this machine's disk, see trainer/cache.py.

    Raises:
      ProjectError: there is no dataset. CorruptDataset: the manifest has changed, or a file is missing or differs; the
        message names it.
    """
    dataset = Dataset.open(uri)
    manifest = dataset.manifest
    read = (*(manifest.splits[name] for name in splits if name in manifest.splits), manifest.items)
    files = [*(shard for split in read for shard in split.shards), *manifest.vocabulary.values()]
    if storage.is_remote(uri):
        return cache.copied(dataset, files)
    for file in files:
        dataset.check(file)
    return dataset


def split_of(dataset: Dataset, name: str) -> Split:
    """A split of the manifest; one without records where the manifest has none of that name."""
    return dataset.manifest.splits.get(name, Split(0, 0, 0, ()))


def record_spec(dataset: Dataset, history_length: int | None = None) -> RecordSpec:
    """The record format, with histories cut to their `history_length` most recent items; windows of a sequence stay.

    Raises:
      ProjectError: a layout that this trainer does not read.
    """
    spec = dataset.manifest.record
    if spec.layout not in ("row", "block", "sequence"):
        raise ProjectError(f"{dataset.uri}: layout row, block or sequence expected, {spec.layout!r} found")
    return dataclasses.replace(spec, history_length=min(spec.history_length, history_length or spec.history_length))


def train_batches(dataset: Dataset, spec: RecordSpec, epoch: int, seed: int, clicks: int, shuffle_records: int) -> Any:
    """A tf.data.Dataset of `Batch`es: one training epoch, in an order that (seed, epoch) decides.

    Args:
      dataset: whose manifest names the shards.
      spec: see `record_spec`.
      epoch: counted from 0; negatives of set `epoch % splits.train.epochs` are read.
      seed: of the order of shards and records.
      clicks: of a batch, where records are rows; a block is a batch by itself.
      shuffle_records: size of the shuffle buffer, for blocks at most 256.
    """
    split = dataset.manifest.splits["train"]
    shards = [shard for shard in split.shards if shard.epoch == epoch % split.epochs and shard.records]
    order = np.random.default_rng([seed, epoch]).permutation(len(shards))
    records = _records(dataset, [shards[i] for i in order])
    rows = spec.layout == "row"
    records = records.shuffle(shuffle_records if rows else min(shuffle_records, BLOCK_BUFFER), seed=_seed(seed, epoch))
    records = records.batch(clicks if rows else 1, num_parallel_calls=tf.data.AUTOTUNE)
    return records.map(_reader(spec, clicks), num_parallel_calls=2, deterministic=True).prefetch(4)


@functools.lru_cache(maxsize=4)
def _reader(spec: RecordSpec, clicks: int) -> Any:
    """Serialized records to a Batch; traced once a format and not once an epoch, which takes a second."""
    parse = codec.parse_spec(spec.train_columns())

    def read(serialized: Any) -> Batch:
        parsed = tf.io.parse_example(serialized, parse)
        if spec.layout == "row":
            return batches.from_rows(parsed, spec, clicks)
        return batches.from_block(parsed, spec) if spec.layout == "block" else batches.from_sequence(parsed, spec)

    return tf.function(read, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def steps_in_epoch(dataset: Dataset, epoch: int, clicks: int) -> int:
    """Batches that `train_batches` yields."""
    split = dataset.manifest.splits["train"]
    records = sum(shard.records for shard in split.shards if shard.epoch == epoch % split.epochs)
    return -(-records // clicks) if dataset.manifest.record.layout == "row" else records


def read_held_out(dataset: Dataset, spec: RecordSpec, name: str, limit: int | None = None) -> HeldOut:
    """The held-out clicks of a split; at most `limit` of them, evenly spaced."""
    split = split_of(dataset, name)
    keep = None
    if limit is not None and limit < split.records:
        keep = np.zeros(split.records, np.bool_)
        keep[np.linspace(0, split.records - 1, limit).round().astype(np.int64)] = True
    columns: dict[str, list[Any]] = {"positive": [], "time": [], "key": [], "exclude": [], "history": []}
    queries = []
    for parsed in _parsed(dataset, split, codec.parse_spec(spec.held_out_columns()), keep):
        queries.append(batches.from_held_out(parsed, spec))
        columns["positive"].append(parsed["item.index"].numpy()[:, 0])
        columns["time"].append(parsed["click.time"].numpy())
        columns["key"].extend(parsed["user.key"].numpy().tolist())
        for name_ in ("exclude", "history"):
            ragged = parsed[f"{name_}.index"]
            columns[name_].append((ragged.values.numpy(), ragged.row_lengths().numpy()))
    return HeldOut(
        positive=_joined(columns["positive"]),
        time=_joined(columns["time"]),
        key=columns["key"],
        exclude=_joined_ragged(columns["exclude"]),
        history=_joined_ragged(columns["history"]),
        queries=queries,
    )


def read_catalogue(dataset: Dataset, spec: RecordSpec) -> Catalogue:
    """Every item, in the order of item_index.

    Raises:
      CorruptDataset: the indices of items/ are not 0 to n - 1.
    """
    split = dataset.manifest.items
    parse = codec.parse_spec(spec.item_columns())
    index, count, key, title, items, gone = [], [], [], [], [], []
    for parsed in _parsed(dataset, split, parse):
        index.append(parsed["item.index"].numpy())
        count.append(parsed["item.count"].numpy())
        key.extend(parsed["item.key"].numpy().tolist())
        title.extend(parsed["item.title"].numpy().tolist())
        items.append(batches.from_items(parsed, spec))
        if spec.gone:
            gone.append(parsed["item.gone"].numpy())
    order = np.argsort(_joined(index), kind="stable")
    if not np.array_equal(_joined(index)[order], np.arange(split.records)):
        raise CorruptDataset(
            f"{dataset.uri}/items: item.index 0 to {split.records - 1} expected, each once; write it anew"
        )
    return Catalogue(
        _joined(count)[order],
        [key[i] for i in order],
        [title[i] for i in order],
        items,
        _joined(gone)[order] > 0 if spec.gone else None,
    )


def _parsed(dataset: Dataset, split: Split, parse: dict[str, Any], keep: Any = None) -> Iterator[dict[str, Any]]:
    """Parsed batches of a whole split in the manifest's order; `keep` [records] picks some."""
    position = 0
    for batch in _records(dataset, list(split.shards), cycle=1).batch(READ_BATCH):
        count, kept = int(batch.shape[0]), batch
        if keep is not None:
            kept = tf.boolean_mask(batch, keep[position : position + count])
        position += count
        if kept.shape[0]:
            yield tf.io.parse_example(kept, parse)


def _records(dataset: Dataset, shards: list[Shard], cycle: int = 4) -> Any:
    """Serialized records of shards; several files at a time, in a fixed order."""
    if not shards:
        return tf.data.Dataset.from_tensor_slices(tf.constant([], tf.string))
    paths = [str(dataset.path(shard)) for shard in shards]
    kinds = {"GZIP" if path.endswith(".gz") else "" for path in paths}
    if len(kinds) > 1:
        raise CorruptDataset(f"{dataset.uri}: shards of one split are partly compressed, partly not; write it anew")
    files = tf.data.Dataset.from_tensor_slices(paths)
    kind = kinds.pop()
    return files.interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type=kind, buffer_size=READ_BUFFER_BYTES),
        cycle_length=min(cycle, len(paths)),
        block_length=16 if dataset.manifest.record.layout == "row" else 1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch, 1]).integers(2**31))


def _joined(parts: list[Any]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _joined_ragged(parts: list[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return _joined([values for values, _ in parts]), _joined([lengths for _, lengths in parts])


def describe(spec: RecordSpec) -> str:
    """One line about what a record holds, for logs."""
    pool = f"{spec.negatives} negatives {'a click' if spec.per == 'click' else 'shared by a record'}"
    size = {"row": "", "block": f", {spec.clicks} clicks a record", "sequence": f", windows of up to {spec.window}"}
    return f"layout {spec.layout}{size[spec.layout]}, {pool}, history of up to {spec.history_length}"
