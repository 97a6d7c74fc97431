"""Puts records together from clicks with negatives, and writes them: the task behind each shard.

Attributes come from the mapped catalogue's tables, whole batches at a time; see `schemas.table` for why that is fast.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.grouping import whole_groups
from pipelines.history import known_to
from pipelines.item_source import ItemsAtHand, source_of
from pipelines.negatives import TOLD, column_of, drawn_pools
from pipelines.parts import Ledger
from pipelines.plan import NO_CLICK, Plan, unsigned
from pipelines.sink import ShardWriter
from pipelines.split import SPLITS, TRAIN
from pipelines.tallies import history_counts
from samplers import in_batch, rng
from samplers.pairs import Pairs
from samplers.unique_tensorflow import log_expected, rejection_pools
from schemas import codec, wire
from schemas.record import Column

Ints = npt.NDArray[np.int64]
Payloads = dict[str, pa.LargeBinaryArray]

CLICKS = 1 << 13  # a step, at most
CANDIDATES = 1 << 19  # the same; what is made of more is so large that the system hands out its pages anew each time

RESULT = (
    "split int, epoch int, path string, records long, clicks long, bytes long, crc32c long, digest string, "
    "negatives binary, positives binary, histories binary, expected binary, without_draws long"
)


@dataclass(frozen=True)
class Chunk:
    """n clicks of one part in their order: whole blocks where the layout has them."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def values(self, name: str) -> npt.NDArray[Any]:
        """[n] a numeric column, or what `told` holds of each click under that name."""
        if name in (TOLD.names or ()):
            return np.asarray(self._told[name])
        return np.asarray(self.table[name].chunk(0).to_numpy(zero_copy_only=False))

    @functools.cached_property
    def _told(self) -> npt.NDArray[Any]:
        """[n] of TOLD."""
        offsets, data = wire.buffers_of(self.fragments("told"))
        return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].view(TOLD)

    def fragments(self, name: str) -> pa.LargeBinaryArray:
        """[n] a binary column."""
        return self.table[name].chunk(0).cast(pa.large_binary())

    def lists(self, name: str) -> tuple[Ints, Ints]:
        """(items one click after the other, offsets [n + 1]) of a column of item lists."""
        offsets, data = wire.buffers_of(self.fragments(name))
        return np.frombuffer(data, "<i4")[offsets[0] // 4 : offsets[-1] // 4].astype(np.int64), (
            offsets - offsets[0]
        ) // 4

    def floats(self, name: str, width: int) -> npt.NDArray[np.float32]:
        """[n, width] of a column of float32 lists."""
        offsets, data = wire.buffers_of(self.fragments(name))
        return np.frombuffer(data, "<f4")[offsets[0] // 4 : offsets[-1] // 4].reshape(-1, width)


def clicks_a_step(plan: Plan) -> int:
    """How many clicks are made into records at a time: fewer where each has many candidates of its own."""
    own = plan.record.negatives if plan.record.per == "click" else 0
    return max(1, min(CLICKS, CANDIDATES // (1 + own + plan.record.history_length)))


def written(batches: Iterable[pa.RecordBatch], plan: Plan) -> Iterator[pa.RecordBatch]:
    """Writes the rows of one part, sorted by place and order, as one shard; gives one row of RESULT."""
    source = source_of(plan)
    builder = _Builder(plan, source.catalogue)
    writer: ShardWriter | None = None
    expected, identity = b"", (TRAIN, 0)
    try:
        for group in whole_groups(batches, "place", clicks_a_step(plan)):
            table = group
            apart = table.filter(pa.compute.equal(table["place"], NO_CLICK))
            if apart.num_rows:
                expected = sum(np.frombuffer(value.as_py()) for value in apart["told"]).tobytes()  # type: ignore[union-attr]
                table = table.filter(pa.compute.not_equal(table["place"], NO_CLICK)).combine_chunks()
            if not table.num_rows:
                continue
            table, catalogue = source.told_to(table)
            chunk = Chunk(table)
            if writer is None:
                part = int(chunk.values("part")[0])
                identity = plan.split_and_epoch(part)
                name = f"{part % plan.shards:05d}-of-{plan.shards:05d}-{plan.run}"
                if identity[0] == TRAIN and plan.epochs > 1:
                    name = f"{identity[1]:03d}-{name}"
                writer = ShardWriter(plan.root, SPLITS[identity[0]], name, plan.compression)
            builder.use(catalogue)
            writer.write(builder.records(chunk, *identity))
        if writer is not None:
            writer.close()
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if writer is not None or expected:
        yield _result(writer, identity, builder, expected)


def _result(
    writer: ShardWriter | None, identity: tuple[int, int], builder: "_Builder", expected: bytes
) -> pa.RecordBatch:
    row = {
        "split": identity[0], "epoch": identity[1], "path": writer.path if writer else None,
        "records": writer.records if writer else 0, "clicks": builder.clicks, "bytes": writer.bytes if writer else 0,
        "crc32c": writer.crc32c if writer else 0, "digest": f"{writer.digest if writer else 0:x}",
        "negatives": builder.negatives.tobytes(), "positives": builder.positives.tobytes(),
        "histories": builder.histories.tobytes(), "expected": expected, "without_draws": builder.without_draws,
    }  # fmt: skip
    types = {"split": pa.int32(), "epoch": pa.int32()}
    return pa.RecordBatch.from_arrays([pa.array([v], types.get(k)) for k, v in row.items()], names=list(row))


class _Builder:
    """Records of a part, and what is counted on the way."""

    def __init__(self, plan: Plan, catalogue: ItemsAtHand) -> None:
        self.plan, self.spec = plan, plan.record
        self.ledger = Ledger.of(plan, catalogue)
        self.use(catalogue)
        self.clicks = self.without_draws = 0
        self.negatives = np.zeros(self.ledger.observed_size, np.int64)
        self.positives = np.zeros(len(self.cells), np.int64)
        self.histories = history_counts(np.zeros(0, np.int64))

    def use(self, catalogue: ItemsAtHand) -> None:
        """Takes items from here on: all of them, or those that the next chunk mentions."""
        self.catalogue, self.proposal = catalogue, catalogue.proposal
        self.ledger = self.ledger.among(catalogue)
        self.cells = self.ledger.cells

    def records(self, chunk: Chunk, split: int, epoch: int) -> wire.Pieces:
        """Serialized records of a chunk."""
        self.clicks += len(chunk)
        self.positives += self.cells.counts(chunk.values("positive"))
        self.histories += history_counts(self._history_lengths(chunk, split))
        columns = self.spec.train_columns() if split == TRAIN else self.spec.held_out_columns()
        if split != TRAIN:
            return codec.encode(columns, self._held_out(chunk, columns))
        if self.spec.layout == "row":
            return codec.encode(columns, self._rows(chunk))
        if self.spec.layout == "sequence":
            return codec.encode(columns, self._sequences(chunk, epoch))
        return codec.encode(columns, self._blocks(chunk, epoch))

    def _history_lengths(self, chunk: Chunk, split: int) -> Ints:
        if split == TRAIN and self.spec.layout == "sequence":
            start: Ints = np.arange(len(chunk)) - chunk.values("position")
            return known_to(start, chunk.values("time"), self.spec.ties) - start
        return np.diff(chunk.lists("history")[1]) if self.spec.history else np.zeros(len(chunk), np.int64)

    def _held_out(self, chunk: Chunk, columns: tuple[Column, ...]) -> Payloads:
        starts = np.arange(len(chunk) + 1)
        payloads = self._clicks(chunk, starts) | self._users(chunk, starts, columns) | self._histories(chunk)
        payloads |= self._items(chunk.values("positive"), np.arange(len(chunk) + 1))
        payloads["user.key"] = wire.bytes_fragments(chunk.table["user"].combine_chunks())
        (items, offsets), (known, of_known) = chunk.lists("history"), chunk.lists("known")
        payloads["history.index"] = wire.regrouped(wire.int_fragments(self.catalogue.indices(items)), offsets)
        payloads["exclude.index"] = wire.regrouped(wire.int_fragments(known), of_known)
        return payloads

    def _rows(self, chunk: Chunk) -> Payloads:
        clicks = np.arange(len(chunk) + 1)
        payloads = self._clicks(chunk, clicks) | self._users(chunk, clicks, self.spec.train_columns())
        payloads |= self._histories(chunk)
        candidates, drawn = self._candidates(chunk)
        if self.spec.log_q == "candidate":
            log_q = chunk.floats("log_q", candidates.shape[1]).astype(np.float64)
        else:
            log_q = self.catalogue.log_expected(candidates, self.spec.negatives)
            log_q[:, 1:] -= chunk.values("log_allowed")[:, None]
            if self.spec.unique:
                log_q = np.minimum(log_q, 0)
            log_q[~drawn, 1:] = math.log(self.spec.negatives)
        starts = clicks * candidates.shape[1]
        payloads |= self._items(candidates.reshape(-1), starts)
        payloads["item.log_q"] = wire.float_fragments(log_q, candidates.shape[1])
        if self.spec.mask:
            payloads["item.mask"] = self._mask(drawn, clicks)
        return payloads

    def _blocks(self, chunk: Chunk, epoch: int) -> Payloads:
        places, begins, block = np.unique(chunk.values("place"), return_index=True, return_inverse=True)
        starts = np.append(begins, len(chunk))
        payloads = self._clicks(chunk, starts) | self._users(chunk, starts, self.spec.train_columns())
        if self.spec.history:
            payloads |= self._shared_histories(chunk, block, starts)
        if self.spec.per == "block":
            return payloads | self._shared_pool(chunk, epoch, places, block, starts, "block.positive")
        candidates, drawn = self._candidates(chunk, epoch, starts)
        table, table_starts, slots = self._table(block[:, None] * len(self.catalogue) + candidates, len(places))
        width = candidates.shape[1]
        payloads |= self._items(table, table_starts)
        payloads["block.positive"] = wire.regrouped(wire.int_fragments(slots[:, 0]), starts)
        payloads["block.negatives"] = wire.regrouped(wire.int_fragments(slots[:, 1:].reshape(-1)), starts * (width - 1))
        if self.spec.log_q == "candidate":
            log_q = wire.float_fragments(chunk.floats("log_q", width), width)
            payloads["block.log_q"] = wire.regrouped(log_q, starts)
        else:
            payloads["item.log_q"] = self._log_q(table, table_starts)
            payloads["block.log_allowed"] = wire.regrouped(wire.float_fragments(chunk.values("log_allowed")), starts)
        if self.spec.mask:
            payloads["block.mask"] = self._mask(drawn, starts)
        return payloads

    def _sequences(self, chunk: Chunk, epoch: int) -> Payloads:
        places, begins, record = np.unique(chunk.values("place"), return_index=True, return_inverse=True)
        starts = np.append(begins, len(chunk))
        window_starts = np.flatnonzero(chunk.values("position") == 0)
        windows = np.searchsorted(window_starts, starts)  # [records + 1] the first window of each
        heads = Chunk(chunk.table.take(pa.array(window_starts)).combine_chunks())
        payloads = self._clicks(chunk, starts) | self._users(heads, windows, self.spec.train_columns())
        lengths = np.diff(np.append(window_starts, len(chunk)))
        payloads["sequence.lengths"] = wire.regrouped(wire.int_fragments(lengths), windows)
        return payloads | self._shared_pool(chunk, epoch, places, record, starts, "sequence.item")

    def _shared_histories(self, chunk: Chunk, block: Ints, starts: Ints) -> Payloads:
        """block.history and the table that its slots are of."""
        items, offsets = chunk.lists("history")
        lengths = np.diff(offsets)
        keys = np.repeat(block, lengths) * len(self.catalogue) + items
        table, table_starts, slots = self._table(keys, len(starts) - 1)
        payloads = {
            "history.lengths": wire.regrouped(wire.int_fragments(lengths), starts),
            "block.history": wire.regrouped(wire.int_fragments(slots), offsets[starts]),
            "history.index": wire.regrouped(wire.int_fragments(self.catalogue.indices(table)), table_starts),
        }
        for name in self.spec.history:
            payloads |= self._taken("history", name, table, table_starts)
        return payloads

    def _shared_pool(
        self, chunk: Chunk, epoch: int, places: Ints, record: Ints, starts: Ints, positives: str
    ) -> Payloads:
        """The item table of records with a pool each; the key `positives` names the clicked items' slots."""
        count, items = self.spec.negatives, len(self.catalogue)
        pools, draws, tries = self._pools(epoch, places)
        self.negatives += self.cells.counts(draws)
        keys = np.concatenate([
            (np.arange(len(places))[:, None] * items + pools).reshape(-1),
            record * items + chunk.values("positive"),
        ])  # fmt: skip
        table, table_starts, slots = self._table(keys, len(places))
        payloads = self._items(table, table_starts)
        payloads["item.log_q"] = self._log_q(table, table_starts, tries)
        payloads["block.negatives"] = wire.regrouped(
            wire.int_fragments(slots[: pools.size]), np.arange(len(places) + 1) * count
        )
        payloads[positives] = wire.regrouped(wire.int_fragments(slots[pools.size :]), starts)
        hits, offsets = chunk.lists("hits")
        if self.spec.layout == "sequence":
            offsets = offsets // 2
            payloads["block.hit_length"] = wire.regrouped(wire.int_fragments(hits[1::2]), offsets[starts])
            hits = hits[::2]
        click = np.repeat(np.arange(len(chunk)) - starts[record], np.diff(offsets))
        payloads["block.hit_click"] = wire.regrouped(wire.int_fragments(click), offsets[starts])
        payloads["block.hit_pool"] = wire.regrouped(wire.int_fragments(hits), offsets[starts])
        return payloads

    def _pools(self, epoch: int, places: Ints) -> tuple[Ints, Ints, Ints | None]:
        """([places, N] the pool of each record; all draws that they took; how many each took, where that varies)."""
        if self.plan.unique != "tensorflow":
            pools = drawn_pools(self.plan, self.catalogue, epoch, places)
            return pools, pools.reshape(-1), None
        found = rejection_pools(self.proposal, self.plan.pool_keys(places, epoch), self.spec.negatives)
        return found.items, found.draws, found.tries

    def _log_q(self, table: Ints, table_starts: Ints, tries: Ints | None = None) -> pa.LargeBinaryArray:
        """item.log_q of tables: before exclusion. tries: [records] draws that each pool took, where that varies."""
        if tries is None:
            log_q = self.catalogue.log_expected(table, self.spec.negatives)
        else:
            q = self.proposal.mass[table] / self.proposal.one
            log_q = log_expected(q, np.repeat(tries, np.diff(table_starts)), self.spec.negatives)
        return wire.regrouped(wire.float_fragments(log_q), table_starts)

    def _mask(self, drawn: npt.NDArray[np.bool_], starts: Ints) -> pa.LargeBinaryArray:
        """A 1 for each candidate that counts: all of what was drawn, and every positive."""
        mask = np.ones((len(drawn), 1 + self.spec.negatives), np.int64)
        mask[~drawn, 1:] = 0
        return wire.regrouped(wire.int_fragments(mask), starts * mask.shape[1])

    def _candidates(
        self, chunk: Chunk, epoch: int = 0, starts: Ints | None = None
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """(items [n, 1 + K], the positive first; whether [n] were drawn) of clicks whose blocks begin at `starts`."""
        drawn = chunk.values("drawn").astype(bool)
        negatives = chunk.lists("negatives")[0].reshape(-1, self.spec.negatives)
        if self.plan.in_batch and starts is not None:
            negatives = self._from_blocks(chunk, negatives, drawn, epoch, starts)
        candidates = np.empty((len(chunk), 1 + self.spec.negatives), np.int64)
        candidates[:, 0], candidates[:, 1:] = chunk.values("positive"), negatives
        self.without_draws += int((~drawn).sum())
        some = slice(None) if drawn.all() else drawn
        taken = np.zeros((0, 0), np.int64)
        if self.spec.log_q == "candidate":
            taken = chunk.lists("taken")[0].reshape(len(chunk), -1)[some]
        self.negatives += self.ledger.observed(candidates[some, 0], negatives[some], taken)
        return candidates, drawn

    def _from_blocks(
        self, chunk: Chunk, negatives: Ints, drawn: npt.NDArray[np.bool_], epoch: int, starts: Ints
    ) -> Ints:
        """The negatives, those of the strategy `in_batch` replaced by what other clicks of the block have."""
        catalogue, counts = self.catalogue, self.catalogue.counts
        share = self.plan.in_batch * counts / counts.sum()
        stands = share * catalogue.proposal.one / np.maximum(catalogue.proposal.mass, 1)
        keys = self.plan.block_keys(unsigned(chunk.values("order")), epoch)
        wanted = in_batch.from_block(negatives, stands, rng.keyed(keys, 0)) & drawn[:, None]
        known, offsets = chunk.lists("known")
        barred = Pairs(np.repeat(np.arange(len(chunk)), np.diff(offsets)) * len(catalogue) + known)

        def excluded(click: Ints, item: Ints) -> npt.NDArray[np.bool_]:
            return barred.place(click * len(catalogue) + item)[1]

        return in_batch.others(negatives, wanted, chunk.values("positive"), starts, rng.keyed(keys, 1), excluded)

    def _table(self, keys: Ints, blocks: int) -> tuple[Ints, Ints, Ints]:
        """(items of all tables, starts [blocks + 1], slots of the keys' shape); a key is block * items + item."""
        distinct, inverse = np.unique(keys, return_inverse=True)
        owner, items = np.divmod(distinct, len(self.catalogue))
        table_starts = np.searchsorted(owner, np.arange(blocks + 1))
        slots = inverse.reshape(keys.shape) - table_starts[keys // len(self.catalogue)]
        return items, table_starts, slots

    def _items(self, items: Ints, starts: Ints) -> Payloads:
        """item.<feature> and item.index of runs of items."""
        payloads = self._taken("item", "index", items, starts)
        for field in self.spec.item:
            payloads |= self._taken("item", field.name, items, starts)
        return payloads

    def _clicks(self, chunk: Chunk, starts: Ints) -> Payloads:
        """click.* of runs of clicks."""
        return {
            "click.time": wire.regrouped(wire.int_fragments(chunk.values("time")), starts),
            "click.weight": wire.regrouped(wire.float_fragments(chunk.values("weight")), starts),
        }

    def _users(self, chunk: Chunk, starts: Ints, columns: tuple[Column, ...]) -> Payloads:
        """user.* of runs of clicks, as far as `columns` name them."""
        keys = [column.key for column in columns if column.key.startswith("user.") and column.key != "user.key"]
        return {key: wire.regrouped(chunk.fragments(column_of(key)), starts) for key in keys}

    def _histories(self, chunk: Chunk) -> Payloads:
        """history.* of single clicks."""
        payloads: Payloads = {}
        if not self.spec.history:
            return payloads
        items, offsets = chunk.lists("history")
        for name in self.spec.history:
            payloads |= self._taken("history", name, items, offsets)
        return payloads

    def _taken(self, side: str, feature: str, items: Ints, starts: Ints) -> Payloads:
        """One feature of runs of items, under the keys that `side` has for it."""
        tables = self.catalogue.tables
        names = [name for name in (feature, f"{feature}.lengths") if name in tables]
        return {f"{side}.{name}": tables[name].runs(items, starts) for name in names}
