"""What each click may not draw, as far as the records of a dataset tell: runs of its user's log, and its own item."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.auditing.clicks import Clicks
from pipelines.auditing.declared import Declared
from pipelines.auditing.findings import Findings
from pipelines.auditing.items import Items
from pipelines.auditing.known import Known, Log

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NOBODY = "clicks whose user no feature tells"
AVAILABILITY = "availability"


@dataclass(frozen=True)
class Facts:
    """What every check of a shard may know. reasons: why the records do not tell all that is excluded, if so.

    train: known of the training clicks of one set; everything: of held-out clicks as well. complete: whether every
    click that histories were made of is in a record.
    """

    items: Items
    declared: Declared
    train: Known
    everything: Known
    complete: bool
    reasons: tuple[str, ...]
    ties: str

    @property
    def inexact(self) -> str:
        """Why the excluded mass is not known, or nothing."""
        return ", ".join(self.reasons)

    @property
    def untold(self) -> str:
        """Why it is not known of an item whether it is excluded, or nothing."""
        return ", ".join(reason for reason in self.reasons if reason != AVAILABILITY or self.items.limits is None)


@dataclass(frozen=True)
class Excluded:
    """For n training clicks. told: the user is known. exact: nothing else is excluded. limit: the moment before which
    items of the user's are.
    """

    clicks: Clicks
    facts: Facts

    @functools.cached_property
    def told(self) -> Bools:
        return self.facts.train.told(self.clicks.user)

    @functools.cached_property
    def exact(self) -> Bools:
        if not self.facts.declared.history:
            return np.full(len(self.clicks), not self.facts.inexact)
        return self.told & (not self.facts.inexact)

    @functools.cached_property
    def span(self) -> tuple[Ints, Ints]:
        """[n] moments [from, to) of the user whose items are excluded."""
        clicks, levels = self.clicks, self.facts.declared.levels
        begin, moment = self.facts.train.moments(clicks.user, clicks.time, clicks.positive, "user" in levels)
        return begin, np.where(self.told & self.facts.declared.history, moment, begin)

    @functools.cached_property
    def run(self) -> tuple[Ints, Ints]:
        """[n] rows [from, to) of `facts.train.item`."""
        return self.facts.train.run(*self.span)

    @functools.cached_property
    def alone(self) -> Bools:
        """[n] whether the positive is excluded besides, being in no run."""
        if not self.facts.declared.levels:
            return np.zeros(len(self.clicks), bool)
        return ~self.told | ~self.facts.train.before(self.clicks.user, self.clicks.positive, self.span[1])

    def mass(self, q: Floats) -> Floats:
        """[n] the probability of what is excluded."""
        total = np.concatenate([[0.0], np.cumsum(q[self.facts.train.item])])
        begin, end = self.run
        mass: Floats = total[end] - total[begin] + np.where(self.alone, q[self.clicks.positive], 0.0)
        return mass

    def pairs(self, rows: Ints) -> tuple[Ints, Ints]:
        """(position in `rows`, item) of every item that each of these clicks excludes."""
        begin, lengths = self.run[0][rows], (self.run[1] - self.run[0])[rows]
        owner = np.repeat(np.arange(len(rows)), lengths)
        known = self.facts.train.item[np.arange(len(owner)) + (begin - (np.cumsum(lengths) - lengths))[owner]]
        alone = np.flatnonzero(self.alone[rows])
        return np.concatenate([owner, alone]), np.concatenate([known, self.clicks.positive[rows[alone]]])

    def weighed(self, weight: Floats) -> Floats:
        """[items] the sum of weight [n] over the clicks that exclude each item."""
        begin, end = self.run
        size, firsts = len(self.facts.items), len(self.facts.train.item)
        change = np.bincount(begin, weight, firsts + 1) - np.bincount(end, weight, firsts + 1)
        items = np.concatenate([self.facts.train.item, self.clicks.positive])
        each = np.concatenate([np.cumsum(change)[:firsts], np.where(self.alone, weight, 0.0)])
        summed: Floats = np.bincount(items, each, size).astype(np.float64)
        return summed


def check(excluded: Excluded, shard: str, findings: Findings) -> None:
    """Adds a finding for each excluded item among the negatives of a click."""
    clicks, facts = excluded.clicks, excluded.facts
    if not facts.declared.levels and not facts.declared.availability:
        findings.skip("exclusion", "nothing is excluded (exclude: none)", len(clicks))
        return
    if facts.untold:
        findings.skip("exclusion", f"beyond what the records tell ({facts.untold})", len(clicks))
    elif facts.declared.history:
        findings.skip("exclusion", f"{NOBODY}, beyond their own histories", int((~excluded.told).sum()))
    findings.looked("exclusion", len(clicks))
    if clicks.pools is not None:
        _pools(excluded, shard, findings)
    elif clicks.negatives is not None and clicks.masked is not None:
        wrong = _own(excluded, clicks.negatives) & ~clicks.masked
        rows, columns = np.nonzero(wrong)
        _report(clicks, rows, clicks.negatives[rows, columns], facts.items, shard, findings)


def _report(clicks: Clicks, rows: Ints, item: Ints, items: Items, shard: str, findings: Findings) -> None:
    why = np.where(
        items.unavailable(item, clicks.time[rows]), "not to be had at that time",
        np.where(item == clicks.positive[rows], "the positive itself", "what the user had"),
    )  # fmt: skip
    findings.add("exclusion", (
        f"{clicks.where(shard, row)}: the negative {item[i]} (key {items.keys[item[i]]}) is {why[i]}"
        for i, row in enumerate(rows[:20])
    ), len(rows))  # fmt: skip


def _own(excluded: Excluded, negatives: Ints) -> Bools:
    """[n, K] whether a negative is excluded for its click."""
    clicks, facts = excluded.clicks, excluded.facts
    wrong = facts.items.unavailable(negatives, clicks.time[:, None])
    if facts.declared.levels:
        wrong |= negatives == clicks.positive[:, None]
    if not facts.declared.history:
        return wrong
    user, limit = clicks.user[:, None], excluded.span[1][:, None]
    wrong |= excluded.told[:, None] & facts.train.before(user, negatives, limit)
    if clicks.history is not None and not (excluded.told.all() and facts.complete):
        size = len(facts.items)
        had = clicks.history.owner * size + clicks.history.values
        key = np.arange(len(clicks))[:, None] * size + negatives
        wrong |= np.isin(key, had[clicks.history.values >= 0])
    return wrong


def _pools(excluded: Excluded, shard: str, findings: Findings) -> None:
    clicks, facts, pools = excluded.clicks, excluded.facts, excluded.clicks.pools
    if pools is None:
        return
    starts = np.searchsorted(clicks.owner, np.arange(len(pools.items) + 1))
    of_record = np.searchsorted(pools.hit_click, starts)
    for record, pool in enumerate(pools.items):
        rows = np.arange(starts[record], starts[record + 1])
        hits = slice(of_record[record], of_record[record + 1])
        change = np.zeros((len(rows) + 1, len(pool)), np.int32)
        first = pools.hit_click[hits] - starts[record]
        np.add.at(change, (first, pools.hit_slot[hits]), 1)
        np.add.at(change, (first + pools.hit_length[hits], pools.hit_slot[hits]), -1)
        masked = np.cumsum(change, axis=0)[:-1] > 0
        wrong = _pool_excluded(excluded, rows, pool)
        row, slot = np.nonzero(wrong & ~masked)
        _report(clicks, rows[row], pool[slot], facts.items, shard, findings)
        row, slot = np.nonzero(masked & ~wrong & excluded.exact[rows][:, None])
        findings.add("exclusion", (
            f"{clicks.where(shard, rows[r])}: slot {s} of the pool (item_index {pool[s]}) is masked, though nothing "
            "excludes it" for r, s in zip(row[:20], slot[:20], strict=True)
        ), len(row))  # fmt: skip


def _pool_excluded(excluded: Excluded, rows: Ints, pool: Ints) -> Bools:
    """[clicks of a record, N] whether an item of the pool is excluded for a click."""
    clicks, facts = excluded.clicks, excluded.facts
    wrong = facts.items.unavailable(pool, clicks.time[rows][:, None])
    if facts.declared.levels:
        wrong |= pool == clicks.positive[rows][:, None]
    if not facts.declared.history:
        return wrong
    users, user = np.unique(clicks.user[rows], return_inverse=True)
    if len(facts.train.item):
        first = facts.train.first(users[:, None], pool[None, :])
        wrong |= (first[user] < excluded.span[1][rows][:, None]) & excluded.told[rows][:, None]
    if clicks.window is not None and not excluded.told[rows].all():
        window = clicks.window[rows] - clicks.window[rows[0]] + 1
        time, positive = clicks.time[rows], clicks.positive[rows]
        own = Known(Log(window, time, positive), facts.items.rank, facts.ties)
        limit = own.moments(window, time, positive)[1]
        wrong |= own.before(window[:, None], pool[None, :], limit[:, None])
    elif clicks.history is not None and not (excluded.told[rows].all() and facts.complete):
        size = len(facts.items)
        inside = (clicks.history.owner >= rows[0]) & (clicks.history.owner <= rows[-1]) & (clicks.history.values >= 0)
        had = (clicks.history.owner[inside] - rows[0]) * size + clicks.history.values[inside]
        wrong |= np.isin(np.arange(len(rows))[:, None] * size + pool, had)
    return wrong
