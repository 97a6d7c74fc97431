"""Clicks with history and negatives: the task that runs over whole users, before records are put together.

What depends on a user's other clicks is decided here (history, exclusion, draws, accidental hits of a shared pool), as
item indices; attributes are looked up only when records are written, so a click crosses the shuffle in few bytes.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import encoding, exclusion, history, hits, mapped_files
from pipelines.blocks import USER_CLICKS, placed
from pipelines.encoding import Fragments
from pipelines.grouping import whole_users
from pipelines.heavy_users import in_share
from pipelines.history import Ranges
from pipelines.item_source import ItemsAtHand, source_of
from pipelines.parts import Ledger, composition, lists_of
from pipelines.plan import NO_CLICK, Plan, range_of, signed
from pipelines.split import TRAIN, with_constant
from pipelines.tallies import excluded_draws, expected_of_different
from pipelines.training_examples import chosen
from pipelines.windows import Windows, windows
from samplers.pairs import distinct
from samplers.unique_quotas import Quotas
from samplers.unique_tensorflow import rejection_pools
from schemas import wire
from schemas.errors import DataError
from schemas.record import RecordSpec

Ints = npt.NDArray[np.int64]

CANDIDATES = 1 << 22  # candidates a step holds at most, 32 MiB of indices

COLUMNS = {
    "part": "int", "place": "long", "order": "long", "position": "int", "user": "string", "positive": "int",
    "history": "binary", "known": "binary", "negatives": "binary", "hits": "binary", "told": "binary",
}  # fmt: skip
# What `told` holds of a click, as one value: Spark handles each value of a row four times, some 0.3 us in all.
TOLD = np.dtype([("time", "<i8"), ("log_allowed", "<f8"), ("weight", "<f4"), ("drawn", "?")])
OWN_COLUMNS = {"log_q": "binary", "taken": "binary"}  # where candidates have a log_q of their own


def column_of(key: str) -> str:
    """The Spark column that carries a record key on its way; Spark would take a dot for a path into a struct."""
    return key.replace(".", "__")


def user_columns(record: RecordSpec) -> list[str]:
    """Columns of the encoded user features."""
    names = []
    for field in record.user:
        names.append(column_of(f"user.{field.name}"))
        if field.width is None:
            names.append(column_of(f"user.{field.name}.lengths"))
    return names


def columns_of(plan: Plan) -> dict[str, str]:
    """Spark types by column of the rows this task gives, none that nobody reads."""
    own = OWN_COLUMNS if plan.record.log_q == "candidate" else {}
    read = {
        "position": plan.record.layout == "sequence",
        "user": plan.held_out,
        "history": plan.held_out or bool(plan.record.history),
        "known": plan.held_out or plan.in_batch > 0,
        "hits": plan.record.per == "block",
        "negatives": plan.record.per == "click",
    }
    there = {name: kind for name, kind in (COLUMNS | own).items() if read.get(name, True)}
    return there | dict.fromkeys(user_columns(plan.record), "binary")


def row_schema(plan: Plan) -> str:
    """DDL of the rows this task gives, one a click of each set of negatives, with the user's features encoded."""
    return ", ".join(f"`{name}` {kind}" for name, kind in columns_of(plan).items())


def with_negatives(
    batches: Iterable[pa.RecordBatch], plan: Plan, share: int | None = None
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Rows of `row_schema` for clicks sorted by user and time; one last row holds the expected draws of this task.

    share: of each heavy user's clicks, the share that is drawn for, by its number; None for all clicks.
    """
    source = source_of(plan)
    ledger = Ledger.of(plan, source.catalogue)
    expected = np.zeros(ledger.expected_size)
    for shown in whole_users(batches, USER_CLICKS):
        table = with_constant(shown, plan.constant)
        users = _UserClicks(table, plan, source.met_by(table), share)
        for step in users.steps():
            yield users.emitted(*step)
        if plan.record.per == "click":  # a pool is drawn without exclusion; the writing task knows how many there are
            expected += users.expected(ledger.among(users.catalogue))
    yield _expected_row(plan, expected)


class _UserClicks:
    """All clicks of some whole users, with what is derived from them once for all sets of negatives."""

    def __init__(self, table: pa.Table, plan: Plan, catalogue: ItemsAtHand, share: int | None) -> None:
        self.plan, self.catalogue, self.proposal = plan, catalogue, catalogue.proposal
        self.users = table["user"].chunk(0)
        self.time = table["time"].to_numpy()
        self.weight = table["weight"].to_numpy()
        self.click_key = table["click_key"].to_numpy()
        self.split = table["split"].to_numpy()
        self.item = catalogue.items_of(table)
        self.index = catalogue.indices(self.item)
        ranges = history.ranges(self.users, self.time, plan.ties)  # type: ignore[arg-type]
        self.ranges, self.latest = ranges, ranges.latest(plan.record.history_length)
        self.mine = np.ones(len(table), bool)
        if share is not None:
            self.mine = in_share(share, plan.heavy_users, ranges.start, self.users, self.click_key)
        self.exclusion = exclusion.of_clicks(
            table, plan.exclude, ranges, self.item, catalogue.index_of_number, catalogue.availability, plan.session_gap
        )
        self.excluded = self.exclusion.mass(self.proposal.mass)
        self.made = composition(
            plan.dependent, plan.record.negatives, catalogue, catalogue.refusing(self.exclusion), self.excluded,
            self.item, lists_of(table, plan.dependent, catalogue.index_of_number),
        )  # fmt: skip
        self.asked = 0  # catalogue-wide draws
        self.quotas: Quotas | None = None
        if catalogue.clicks is not None:
            self.quotas = catalogue.clicks.quotas(self.exclusion, np.arange(len(self.item)))
        self.user_features = self._encoded_users(table)

    def _encoded_users(self, table: pa.Table) -> dict[str, pa.LargeBinaryArray]:
        first, user_of_row = np.unique(self.ranges.start, return_inverse=True)
        columns: dict[str, pa.LargeBinaryArray] = {}
        vocabularies = user_vocabularies(self.plan.user_vocabularies) if self.plan.user_vocabularies else {}
        for field in self.plan.record.user:
            column = f"feature_{field.name}"
            raw = table[column if column in table.column_names else "user"].chunk(0).take(pa.array(first))
            fragments: Fragments = encoding.encoded(field, vocabularies.get(field.name), raw).take(user_of_row)
            columns[column_of(f"user.{field.name}")] = fragments.values
            if fragments.lengths is not None:
                columns[column_of(f"user.{field.name}.lengths")] = fragments.lengths
        return columns

    @property
    def drawable(self) -> npt.NDArray[np.bool_]:
        """[n] whether enough is left to draw for each click."""
        enough: npt.NDArray[np.bool_] = self.excluded < self.proposal.one if self.quotas is None else ~self.quotas.short
        return enough

    def expected(self, ledger: Ledger) -> npt.NDArray[np.float64]:
        """What the training clicks' draws are expected to be, over all sets, after exclusion; and what was refused."""
        drawable = (self.split == TRAIN) & self.drawable & self.mine
        allowed = 1 - self.excluded / self.proposal.one
        times = np.where(drawable, np.sum([self.examples(epoch) for epoch in self.plan.drawn_epochs], axis=0), 0.0)
        if self.quotas is not None:
            wide = expected_of_different(self.exclusion, self.quotas, times, self.proposal, ledger.cells)
        else:
            draws = self.made.taken[:, 0] * times / np.where(drawable, allowed, 1)
            wide = ledger.cells.probability * draws.sum()
            wide -= excluded_draws(self.exclusion, draws, self.proposal, ledger.cells)
        told = ledger.expected(wide, self.made, times)
        return told + ledger.refused(self.made, self.asked)

    def steps(self) -> Iterator[tuple[int, int, Ints, Windows | None]]:
        """(split, set of negatives, rows, the windows that they are), few enough rows at a time."""
        record = self.plan.record
        for split in np.unique(self.split):
            if split == TRAIN and record.layout == "sequence":
                yield from self._windows()
                continue
            if split != TRAIN and self.plan.first_epoch:
                continue  # the dataset that is appended to has them
            size = max(1, CANDIDATES // (record.negatives + record.history_length))
            for epoch in self.plan.drawn_epochs if split == TRAIN else (0,):
                held_out = (self.split == split) & (self.weight > 0)
                rows = np.flatnonzero(self.mine & (self.examples(epoch) if split == TRAIN else held_out))
                for begin in range(0, len(rows), size):
                    yield int(split), epoch, rows[begin : begin + size], None

    def examples(self, epoch: int) -> npt.NDArray[np.bool_]:
        """[n] training clicks that are examples in a set of negatives."""
        able = (self.split == TRAIN) & (self.weight > 0)
        return chosen(self.ranges.start, able, self.click_key, self.plan, epoch)

    def _windows(self) -> Iterator[tuple[int, int, Ints, Windows | None]]:
        size = max(1, CANDIDATES // (self.plan.record.negatives + self.plan.record.window))
        for epoch in self.plan.drawn_epochs:
            found = windows(self.ranges.start, self.split == TRAIN, self.click_key, self.plan, epoch)
            mine = np.flatnonzero(self.mine[found.begin])
            for begin in range(0, len(mine), size):
                some = found.some(mine[begin : begin + size])
                yield TRAIN, epoch, some.rows, some

    def emitted(self, split: int, epoch: int, rows: Ints, found: Windows | None) -> pa.RecordBatch:
        """One batch of rows."""
        count = len(rows)
        nothing = wire.binary_array(b"", np.zeros(count + 1, np.int64))
        columns: dict[str, Any] = {
            "position": np.zeros(count, np.int32),
            "user": pa.nulls(count, pa.string()),
            "time": self.time[rows],
            "weight": self.weight[rows],
            "positive": self.index[rows].astype(np.int32),
            "history": nothing,
            "known": nothing,
            "negatives": nothing,
            "log_allowed": np.log1p(
                -self.excluded[rows] / self.proposal.one,
                where=self.excluded[rows] < self.proposal.one,
                out=np.zeros(count),
            ),
            "hits": nothing,
            "drawn": np.ones(count, bool),
            **dict.fromkeys(OWN_COLUMNS, nothing),
        }
        if self.catalogue.clicks is not None and self.quotas is not None:
            columns["log_allowed"] = self.catalogue.clicks.log_allowed(self.quotas)[rows]
        columns |= self._single(split, epoch, rows) if found is None else self._sequences(found, epoch)
        columns |= {name: fragments.take(pa.array(rows)) for name, fragments in self.user_features.items()}
        told = np.empty(count, TOLD)
        for name in TOLD.names or ():
            told[name] = columns[name]
        columns["told"] = wire.binary_array(told.tobytes(), np.arange(count + 1) * TOLD.itemsize)
        return _batch(columns, self.plan)

    def _single(self, split: int, epoch: int, rows: Ints) -> dict[str, Any]:
        """Columns of clicks that carry their histories themselves."""
        plan, order = self.plan, self.plan.order(self.click_key[rows], epoch)
        # Where no record holds clicks together, each is for itself.
        place, shard = (order >> np.uint64(1)).astype(np.int64), range_of(order, plan.shards)
        columns: dict[str, Any] = {"order": signed(order)}
        if split != TRAIN or plan.record.history:
            recent = Ranges(self.latest.start[rows], self.latest.end[rows])
            columns["history"] = _lists(*history.gathered(self.index, recent))
        if split != TRAIN:
            columns["user"] = encoding.texts(self.users.take(pa.array(rows))).cast(pa.string())
            columns["known"] = self._known(rows)
        else:
            if plan.record.layout == "block":
                place, shard = placed(plan, epoch, np.zeros(len(rows), np.int64), order)
            if plan.record.per == "click":
                columns |= self._negatives(rows, epoch)
                if plan.in_batch:  # which other clicks share the block is known where it is written
                    columns["known"] = _lists(*self.exclusion.lists(rows))
            else:
                columns["hits"] = self._hits(rows, epoch, place)
        return columns | {"place": place, "part": plan.part(split, epoch, shard)}

    def _sequences(self, found: Windows, epoch: int) -> dict[str, Any]:
        """Columns of whole windows, one row a click."""
        plan, lengths = self.plan, found.lengths
        place, shard = placed(plan, epoch, found.kind, found.order)
        pools, pool = self._pools(epoch, place)
        return {
            "order": np.repeat(signed(found.order), lengths),
            "position": (found.rows - np.repeat(found.begin, lengths)).astype(np.int32),
            "place": np.repeat(place, lengths),
            "part": np.repeat(plan.part(TRAIN, epoch, shard), lengths),
            "hits": _lists(*hits.runs(self.exclusion, found, pools, pool)),
            "weight": np.where(self.examples(epoch)[found.rows], self.weight[found.rows], np.float32(0)),
        }

    def _negatives(self, rows: Ints, epoch: int) -> dict[str, Any]:
        """drawn, negatives, and where candidates have a log_q of their own, that and how many each strategy drew."""
        plan, count = self.plan, self.plan.record.negatives
        drawn = self.drawable[rows]
        if not drawn.all() and plan.shortage == "error":
            lacking = self.users[int(rows[np.argmin(drawn)])].as_py()
            what, left = "nothing left to draw", f"no {self._drawable} remains"
            if self.quotas is not None:
                what = f"fewer than {count} different items left to draw"
                left = f"too few of {self._drawable} remain"
            raise DataError(
                f"negatives: {int((~drawn).sum())} clicks have {what} (first: user {lacking!r}): "
                f"with exclude: {' and '.join(plan.exclude) or 'none'} {left}; "
                "set negatives.shortage: mask, exclude less, or give uniform a share of the proposal"
            )
        negatives = np.repeat(self.index[rows][:, None], count, axis=1)
        able = rows[drawn]
        if len(able):
            click_keys = self.click_key[able]
            keys = [plan.part_keys(click_keys, epoch, part) for part in range(len(plan.dependent))]
            own = plan.draw_keys(click_keys, epoch)
            if self.catalogue.clicks is not None and self.quotas is not None:
                negatives[drawn] = self.catalogue.clicks.draw(own, self.quotas.of(able), self.exclusion, able)
            else:
                negatives[drawn] = self.catalogue.references(self.made.draw([own, *keys], able))
                self.asked += int(self.made.taken[able, 0].sum())
        lists = _lists(negatives.reshape(-1), np.full(len(rows), count), self.catalogue.reference_type)
        columns = {"drawn": drawn, "negatives": lists}
        if plan.record.log_q == "item":
            return columns
        log_q = self.made.log_q(rows, np.concatenate([self.item[rows][:, None], negatives], axis=1))
        log_q[~drawn, 1:] = math.log(count)
        return columns | {
            "log_q": wire.float_fragments(log_q, 1 + count),
            "taken": _lists(self.made.taken[rows].reshape(-1), np.full(len(rows), 1 + len(plan.dependent))),
        }

    @property
    def _drawable(self) -> str:
        limited = self.catalogue.availability is not None
        return "item of positive probability" + (" that was available" if limited else "")

    def _hits(self, rows: Ints, epoch: int, place: Ints) -> pa.LargeBinaryArray:
        """Slots of each click's pool that hold an item excluded for it."""
        pools, pool = self._pools(epoch, place)
        candidates = pools[pool]
        click = np.broadcast_to(rows[:, None], candidates.shape)
        excluded = self.exclusion.excluded(click.reshape(-1), candidates.reshape(-1)).reshape(candidates.shape)
        return _lists(np.nonzero(excluded)[1], excluded.sum(axis=1))

    def _pools(self, epoch: int, place: Ints) -> tuple[Ints, Ints]:
        """([pools, N] the pools of these places, which of them each place has)."""
        places, pool = np.unique(place, return_inverse=True)
        return drawn_pools(self.plan, self.catalogue, epoch, places), pool

    def _known(self, rows: Ints) -> pa.LargeBinaryArray:
        """Distinct items a user had before each held-out click, sorted."""
        items, lengths = history.gathered(self.item, Ranges(self.ranges.start[rows], self.ranges.end[rows]))
        owner = np.repeat(np.arange(len(rows)), lengths)
        known = distinct(owner * len(self.catalogue) + items)
        index = self.catalogue.indices(known % len(self.catalogue))
        return _lists(index, np.bincount(known // len(self.catalogue), minlength=len(rows)))


def drawn_pools(plan: Plan, catalogue: ItemsAtHand, epoch: int, places: Ints) -> Ints:
    """[places, N] the pool of each record, from nothing but the seed, the set of negatives and the record's place."""
    keys = plan.pool_keys(places, epoch)
    if plan.unique == "tensorflow":
        return rejection_pools(catalogue.proposal, keys, plan.record.negatives).items
    if catalogue.pools is not None:
        return catalogue.pools.draw(keys)
    return catalogue.proposal.draw(keys[:, None], np.arange(plan.record.negatives, dtype=np.uint64)[None, :])


@functools.lru_cache(maxsize=1)
def user_vocabularies(path: str) -> dict[str, pa.Array]:
    """Values by index of each user feature, memory-mapped."""
    table = mapped_files.mapped(path)
    return {name: table[name].chunk(0)[0].values for name in table.column_names}


def _lists(items: Ints, lengths: Ints, kind: str = "<i4") -> pa.LargeBinaryArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64) * np.dtype(kind).itemsize
    return wire.binary_array(items.astype(kind), offsets)


def _expected_row(plan: Plan, expected: npt.NDArray[np.float64]) -> pa.RecordBatch:
    """Expected draws travel as one more row, at place -1, to the first writing task."""
    empty = pa.array([b""], pa.large_binary())
    columns: dict[str, Any] = {name: pa.nulls(1) for name in columns_of(plan)}
    columns |= {"part": np.zeros(1, np.int32), "place": np.full(1, NO_CLICK), "told": pa.array([expected.tobytes()])}
    return _batch(columns | dict.fromkeys(user_columns(plan.record), empty), plan)


_ARROW = {
    "int": pa.int32(),
    "long": pa.int64(),
    "string": pa.string(),
    "binary": pa.binary(),
}


def arrow_schema(plan: Plan) -> pa.Schema:
    """The same as `row_schema`, in Arrow's words."""
    return pa.schema([(name, _ARROW[kind]) for name, kind in columns_of(plan).items()])


def _batch(columns: dict[str, Any], plan: Plan) -> pa.RecordBatch:
    schema, arrays = arrow_schema(plan), []
    for field in schema:
        column = columns[field.name]
        array = column if isinstance(column, pa.Array) else pa.array(column)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
