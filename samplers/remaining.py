"""Inversion over what remains for many clicks at once, also of one user who knows nearly everything.

What a user had is excluded for runs of rows (`samplers.spans`), so whoever clicks n times has n runs, but each click is
refused up to n items: listed click by click, that is the square of n. Here the runs are listed once. Each is two events
along the rows, as its mass comes and goes, and of the events up to a click's row those of any range of items sum to
what the click excludes of it. A target goes down a tree over the excluded items, at each step to the later half if it
lies beyond where that begins when what is excluded before takes no room. The tree is a wavelet matrix (Claude, Navarro
& Ordonez 2015; the query is the range quantile of Gagie, Puglisi & Turpin 2009, with masses for counts): events stay
sorted by row while each level parts them by one bit of their item, so that nothing is searched for but the first time.

Whole numbers, so where a target comes to lie does not depend on what else is asked. Cost: (events + targets) times the
logarithm of the excluded items, 0.1 microseconds a level and target; one level at a time is held, 50 bytes an event and
100 a target, of `AT_ONCE` targets.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samplers.inversion import Positions
from samplers.spans import Spans

Ints = npt.NDArray[np.int64]

AT_ONCE = 1 << 20  # targets


def positions(runs: Sequence[Spans], end: Ints, mass: Ints, rows: Ints, target: Ints) -> Positions:
    """[t] where on the line targets come to lie when the items that are excluded for the row beside each take no room.

    runs: what is excluded, no item twice for a row. end, mass: [items] where each ends on the line, and its length.
    rows: [t], best sorted. target: [t] from 0 up to what remains of the line for the row.
    """
    found = np.empty(len(target), np.int64)
    for begin in range(0, len(target), AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        found[some] = _positions(runs, end, mass, rows[some], target[some])
    return found


def _positions(runs: Sequence[Spans], end: Ints, mass: Ints, rows: Ints, target: Ints) -> Positions:
    item, at, change, until = _events(runs, mass, rows)
    if not len(item):
        return target
    ends, number = np.unique(end[item], return_inverse=True)  # items without mass are no events, so each has its end
    first = np.empty(len(ends) + 1, np.int64)
    first[number], first[-1] = (end - mass)[item], np.iinfo(np.int64).max
    order = np.argsort(at, kind="stable")
    number, change = number[order], change[order]
    # Of each target's node: its first event, and behind the last event up to the target's row, for each kind of run.
    low, high = np.zeros(len(target), np.int64), np.searchsorted(at[order], until, side="right")
    node, passed = np.zeros(len(target), np.int64), np.zeros(len(target), np.int64)
    for bit in reversed(range((len(ends) - 1).bit_length())):
        later = (number >> bit & 1).astype(bool)
        order = np.concatenate([np.flatnonzero(~later), np.flatnonzero(later)])
        number, change = number[order], change[order]
        earlier, before = _sums(~later), _sums(change)
        low_earlier, high_earlier = earlier[low], earlier[high]
        excluded = (before[high_earlier] - before[low_earlier]).sum(axis=0)
        middle = np.minimum(node + (1 << bit), len(ends))
        beyond = target + passed + excluded >= first[middle]
        passed[beyond] += excluded[beyond]
        node += beyond << np.int64(bit)
        low = np.where(beyond, earlier[-1] + low - low_earlier, low_earlier)
        high = np.where(beyond, earlier[-1] + high - high_earlier, high_earlier)
    before = _sums(change)
    excluded = (before[high] - before[low]).sum(axis=0)
    return np.asarray(target + passed + np.where(target + passed >= first[node], excluded, 0))


def _events(runs: Sequence[Spans], mass: Ints, rows: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(item, where, change of excluded mass) of each event; [runs, t] up to where events count for each row.

    Only of runs with one of the rows. Each kind of run has its own order of rows, hence its own stretch of where.
    """
    clicks, click = np.unique(rows, return_inverse=True)
    items, begins, ends, until = ([np.zeros(0, np.int64)] for _ in range(4))
    for kind, spans in enumerate(runs):
        places = spans.place[clicks]
        order = np.argsort(places)
        begin, end = (np.searchsorted(places[order], edge) for edge in (spans.begin, spans.end))
        some = (begin < end) & (mass[spans.item] > 0)
        items.append(spans.item[some])
        begins.append(kind * len(clicks) + begin[some])
        ends.append(kind * len(clicks) + end[some])
        rank = np.empty(len(clicks), np.int64)
        rank[order] = kind * len(clicks) + np.arange(len(clicks))
        until.append(rank[click])
    item = np.concatenate(items)
    change = np.concatenate([mass[item], -mass[item]])
    return np.tile(item, 2), np.concatenate([*begins, *ends]), change, np.reshape(until[1:], (len(runs), len(rows)))


def _sums(values: npt.NDArray[np.generic]) -> Ints:
    """[n + 1] sums of the values before each; modulo 2^64 where they go beyond, differences are exact."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
