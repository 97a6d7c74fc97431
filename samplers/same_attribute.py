"""Within the positive's group: its category, its shop, its language, by a power of the training frequency.

For: negatives that share the attribute which the model finds first, so that it must learn what sets items of one group
apart; and against folding, where groups that are never contrasted come to lie on each other. Bias: an item is drawn
only for clicks within its group, and in a small group often; log_q says how often, and undoes it in expectation. As the
only negatives they teach nothing about other groups, so a catalogue-wide strategy stands beside them. Items without the
attribute (index 0: missing, or cut from the vocabulary) belong to no group. Where fewer than `least` items of the group
may be drawn for a click, they would be the same few each time: the slots go to the catalogue-wide part.

q(i) = mass(i) / mass of the group, over what is allowed for the click: whole numbers, as catalogue-wide. Cost: a
search in one sorted array a draw, 24 bytes an item; refused draws are drawn anew, then inverted, as catalogue-wide
(`samplers.allowed`).
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplers import popularity, remaining, rng
from samplers.mass import shares, whole
from samplers.part import NOTHING, Excluding
from samplers.spans import Spans

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REDRAWS = 32


@dataclass(frozen=True)
class Groups:
    """label [items] the group of each item, 0 for none. mass [items] whole numbers in proportion to the weights."""

    label: Ints
    mass: Ints

    @functools.cached_property
    def order(self) -> Ints:
        """[items] by group, then by index."""
        return np.argsort(self.label, kind="stable")

    @functools.cached_property
    def before(self) -> Ints:
        """[items + 1] mass of what comes earlier in `order`."""
        return np.concatenate([[0], np.cumsum(self.mass[self.order])])

    @functools.cached_property
    def end(self) -> Ints:
        """[items] mass of what comes earlier in `order` and of the item itself."""
        end = np.empty(len(self.order), np.int64)
        end[self.order] = self.before[1:]
        return end

    @functools.cached_property
    def edges(self) -> Ints:
        """[groups + 1] where each group begins in `order`."""
        return np.searchsorted(self.label[self.order], np.arange(int(self.label.max(initial=0)) + 2))

    @functools.cached_property
    def total(self) -> Ints:
        """[groups] mass of each."""
        return np.diff(self.before[self.edges])

    @functools.cached_property
    def drawable(self) -> Ints:
        """[groups] items of positive mass in each."""
        return np.bincount(self.label, self.mass > 0, len(self.total)).astype(np.int64)

    def bins(self, count: int) -> Ints:
        """[items] which of `count` equal parts of its group's mass an item lies in, from the least index on."""
        label = self.label[self.order]
        within = self.before[:-1] + self.mass[self.order] // 2 - self.before[self.edges[label]]
        bins = np.empty(len(label), np.int64)
        bins[self.order] = np.minimum(within / np.maximum(self.total[label], 1) * count, count - 1)
        return bins

    def pick(self, label: Ints, uniform: Floats) -> Ints:
        """Items of groups drawn with uniform numbers in [0, 1), of their shape; every group has mass."""
        total = self.total[label]
        target = self.before[self.edges[label]] + np.minimum((uniform * total).astype(np.int64), total - 1)
        return self.order[np.searchsorted(self.before, target, side="right") - 1]


def groups(label: Ints, counts: Ints | Floats, exponent: float) -> Groups:
    """Groups of items by label [items], drawn from in proportion to counts ** exponent."""
    return Groups(label.astype(np.int64), whole(shares(popularity.weights(counts, exponent))))


class SameAttribute:
    """Draws from the group of the click's positive. See `samplers.part.Part`."""

    def __init__(
        self, source: Groups, exclusion: Excluding, positive: Ints, items: int, slots: int, least: int
    ) -> None:
        if len(source.label) != items:
            raise ValueError(f"groups of {len(source.label)} items for a catalogue of {items}")
        self.source, self.exclusion, self.positive, self.slots, self.refused = source, exclusion, positive, slots, 0
        self.label = source.label[positive]
        excluded = exclusion.mass(source.mass, source.label)
        left = source.drawable[self.label] - exclusion.mass((source.mass > 0).astype(np.int64), source.label)
        self.able = (self.label > 0) & (left >= least)
        self.allowed = np.where(self.able, source.total[self.label] - excluded, 1)
        self.taken = np.where(self.able, slots, 0)

    def draw(self, keys: rng.Keys, rows: Ints) -> Ints:
        """[rows, slots] items of each click's group, conditioned on not being excluded."""
        drawn = np.full((len(rows), self.slots), NOTHING, np.int64)
        flat = drawn.reshape(-1)
        open_slots = np.flatnonzero(np.repeat(self.able[rows], self.slots))
        for attempt in range(REDRAWS):
            if not len(open_slots):
                return drawn
            owner, slot = np.divmod(open_slots, self.slots)
            uniform = rng.uniforms(keys[owner], slot + (attempt << 32))
            flat[open_slots] = self.source.pick(self.label[rows[owner]], uniform)
            open_slots = open_slots[self.exclusion.excluded(rows[owner], flat[open_slots])]
            self.refused += len(open_slots)
        owner, slot = np.divmod(open_slots, self.slots)
        uniform = rng.uniforms(keys[owner], slot + (REDRAWS << 32))
        allowed = self.allowed[rows[owner]]
        target = np.minimum((uniform * allowed).astype(np.int64), allowed - 1)
        if self.exclusion.availability is None:
            flat[open_slots] = self._inverted(rows[owner], target)
            return drawn
        for click in np.unique(owner):
            own = owner == click
            flat[open_slots[own]] = self._listed(int(rows[click]), target[own])
        return drawn

    @functools.cached_property
    def _runs(self) -> list[Spans]:
        return self.exclusion.runs(self.source.label)

    def _inverted(self, rows: Ints, target: Ints) -> Ints:
        """Items by inversion of the distribution function over what is left of the group of each row's click."""
        source, line = self.source, self.source.before[self.source.edges[self.label[rows]]] + target
        position = remaining.positions(self._runs, source.end, source.mass, rows, line)
        return source.order[np.searchsorted(source.before, position, side="right") - 1]

    def _listed(self, row: int, target: Ints) -> Ints:
        """The same for one click, whose excluded items are listed."""
        label, source = self.label[row], self.source
        members = source.order[source.edges[label] : source.edges[label + 1]]
        mass = np.where(np.isin(members, self.exclusion.items_of(row)), 0, source.mass[members])
        return members[np.searchsorted(np.cumsum(mass), target, side="right")]

    def expected(self, rows: Ints, items: Ints) -> Floats:
        """[rows, m] slots * mass / allowed mass for items of the group, 0 for others."""
        own = (self.source.label[items] == self.label[rows][:, None]) & self.able[rows][:, None]
        return np.where(own, self.slots * self.source.mass[items] / self.allowed[rows][:, None], 0.0)

    def expected_of_positive(self, rows: Ints) -> Floats:
        """[rows] slots * mass / mass of the whole group."""
        total = np.maximum(self.source.total[self.label[rows]], 1)
        return np.where(self.able[rows], self.slots * self.source.mass[self.positive[rows]] / total, 0.0)

    def expected_by(self, bin_: Ints, bins: int, clicks: Floats) -> Floats:
        """[bins] expected draws by the bin [items] of an item, of `clicks` [n] sets of negatives of each click.

        Costs a pass over the clicks a bin: what a bin's allowed items weigh is found as any excluded mass is.
        """
        source, found = self.source, np.zeros(bins)
        weight = clicks * self.taken / self.allowed
        for number in range(bins):
            mass = np.where(bin_ == number, source.mass, 0)
            whole = np.bincount(source.label, mass.astype(np.float64), len(source.total))
            found[number] = (weight * (whole[self.label] - self.exclusion.mass(mass, source.label)))[self.able].sum()
        return found

    def expected_by_item(self, clicks: Floats, bins: int = 8) -> Floats:
        """[items] expected draws by item; what exclusion takes is told by `bins` parts of the groups' mass."""
        source, bin_ = self.source, self.source.bins(bins)
        of_group = np.bincount(self.label, clicks * self.taken, len(source.total))
        before = of_group[source.label] * source.mass / np.maximum(source.total, 1)[source.label]
        whole = np.bincount(bin_, before, bins)
        return before * (self.expected_by(bin_, bins, clicks) / np.where(whole > 0, whole, 1))[bin_]
