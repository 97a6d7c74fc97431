"""Runs of rows: what holds for some clicks of a group (a user, a session) in a row, as ranges instead of pairs.

Whatever a user or a session has had is excluded from one click on, or up to one, and is available for a span of time.
As a group's clicks are sorted by time, each such item is one range of rows. Masses over clicks are then differences of
cumulative sums of integers, so they are exact, in time n log n for n clicks, whoever they belong to.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spans:
    """Item `item[s]` is meant for the rows `order[begin[s]:end[s]]`. order: [n] rows, group after group."""

    order: Ints
    item: Ints
    begin: Ints
    end: Ints

    @functools.cached_property
    def place(self) -> Ints:
        """[n] where each row stands in `order`."""
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        return place

    def summed(self, values: Ints) -> Ints:
        """[n] the sum of the values [spans] of what is meant for each row; modulo 2^64 where it goes beyond."""
        change = np.zeros(len(self.order) + 1, np.int64)
        np.add.at(change, self.begin, values)
        np.subtract.at(change, self.end, values)
        out = np.empty(len(self.order), np.int64)
        out[self.order] = np.cumsum(change, dtype=np.int64)[:-1]
        return out

    def totals(self, values: Floats) -> Floats:
        """[spans] the sum of the values [n] of the rows of each."""
        before = np.concatenate([[0.0], np.cumsum(values[self.order])])
        totals: Floats = before[self.end] - before[self.begin]
        return totals


class Groups:
    """n rows put together by their label, in their own order within a group."""

    def __init__(self, label: Ints) -> None:
        self.order: Ints = np.argsort(label, kind="stable")
        ordered = label[self.order]
        new = np.ones(len(label), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        self._ordered: Ints = np.cumsum(new, dtype=np.int64) - 1
        self.edges: Ints = np.append(np.flatnonzero(new), len(label))
        self.of_row: Ints = np.empty(len(label), np.int64)
        self.of_row[self.order] = self._ordered

    def first_at(self, value: Ints, group: Ints, least: Ints) -> Ints:
        """The first place in `order` of each group whose value is at least `least`; the group's end where none is.

        value: [n], from 0 to n, rising within each group. group, least: of one shape, least from 0 to n + 1.
        """
        span = len(value) + 2
        return np.searchsorted(self._ordered * span + value[self.order], group * span + least)


def refined(label: Ints, by: Ints | None) -> Ints:
    """[n] labels that are alike where both are: `by` splits the groups of `label` further."""
    if by is None or not len(by):
        return label
    labels: Ints = np.unique(label, return_inverse=True)[1] * (int(by.max() - by.min()) + 1) + (by - by.min())
    return labels


def concatenated(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """(the whole numbers of all ranges [begin, end), one range after the other; which range each is of)."""
    lengths = end - begin
    owner = np.repeat(np.arange(len(begin)), lengths)
    return np.arange(len(owner)) + (begin - (np.cumsum(lengths) - lengths))[owner], owner
