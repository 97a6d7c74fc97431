"""Accidental hits of a sequence's pool: for each window, which slots of the pool hold an item excluded for its clicks.

What a user has had stays excluded for the rest of the window, so a hit is a run of clicks and not a pair: some 6 bytes
a click where pairs take 200 (a pool of 1,024 over the 1,682 films of MovieLens-100k). Such runs cost a search a window
and slot. Sessions, lists and limits of availability come and go within a window: there every click and slot is looked
at, 10 to 20 ns each, and what lies together is a run.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipelines.history import Ranges
from pipelines.windows import Windows
from samplers.exclusion import Exclusion

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PAIRS = 1 << 20  # clicks and slots that are looked at together


def runs(exclusion: Exclusion, found: Windows, pools: Ints, pool: Ints) -> tuple[Ints, Ints]:
    """(slot, length, slot, length, ... of all runs, how many numbers of them belong to each click of the windows).

    A run begins at the click it belongs to and goes on for `length` clicks of the same window.

    Args:
      found: w windows of rows of `exclusion`.
      pools: [pools, N] items, each pool's rising or not.
      pool: [w] the pool of each window.
    """
    if exclusion.in_runs:
        parts = [_of_history(exclusion, found, pools, pool), _of_positives(exclusion, found, pools, pool)]
    else:
        parts = [_none(), *_of_all(exclusion, found, pools, pool)]
    begin, slot, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((slot, begin))
    begin, slot, end = begin[order], slot[order], end[order]
    click_of_row = np.full(len(exclusion.item), -1, np.int64)
    click_of_row[found.rows] = np.arange(len(found.rows))
    counts = np.bincount(click_of_row[begin], minlength=len(found.rows))
    return np.stack([slot, end - begin], axis=1).reshape(-1), 2 * counts


def expected_runs(exclusion: Exclusion, drawn: Floats) -> tuple[Floats, Floats]:
    """How many runs `runs` is to find for one slot of a pool, as sums [n + 1] over rows: (of histories, of positives).

    For exclusion `in_runs`. A run of a history counts for its user from the row where it begins, in each window that
    ends behind it; one of a positive in its own window alone.

    Args:
      drawn: [n] the share of all that is drawn of each row's item.
    """
    rows = np.arange(len(drawn))
    known: Floats = np.zeros(len(drawn))
    own: Floats = drawn * exclusion.positive
    if exclusion.history:
        first, known_from = exclusion.first_of_row, exclusion.known_from(rows)
        begin = np.where(known_from == rows + 1, rows, known_from)
        inside = (begin < len(rows)) & (exclusion.start[np.minimum(begin, len(rows) - 1)] == exclusion.start)
        known = np.bincount(np.where(inside, begin, 0), drawn * (exclusion.first & inside), len(rows)).astype(
            np.float64
        )
        own = own * ((known_from[first] > rows) & (known_from[first] > first + 1))
    return np.concatenate([[0.0], np.cumsum(known)]), np.concatenate([[0.0], np.cumsum(own)])


def _of_history(exclusion: Exclusion, found: Windows, pools: Ints, pool: Ints) -> tuple[Ints, Ints, Ints]:
    """(first row, slot, row behind the last) of runs: from where the user has had an item to the window's end."""
    if not exclusion.history or not len(found):
        return _none()
    candidates = pools[pool]
    window = np.repeat(np.arange(len(found)), candidates.shape[1])
    first = exclusion.first_click(exclusion.start[found.begin][window], candidates.reshape(-1))
    known = first >= 0
    window, first = window[known], first[known]
    slot = np.flatnonzero(known) % candidates.shape[1]
    begin = exclusion.known_from(first)
    if exclusion.positive:  # the click itself, where the next one already knows of it
        begin = np.where(begin == first + 1, first, begin)
    begin = np.maximum(begin, found.begin[window])
    kept = begin < found.end[window]
    return begin[kept], slot[kept], found.end[window][kept]


def _of_positives(exclusion: Exclusion, found: Windows, pools: Ints, pool: Ints) -> tuple[Ints, Ints, Ints]:
    """The same for clicks whose own item is in the pool, as far as no run of the history has them."""
    if not exclusion.positive or not len(found):
        return _none()
    window, row = np.repeat(np.arange(len(found)), found.lengths), found.rows
    if exclusion.history:
        first = exclusion.first_of_row[row]
        known_from = exclusion.known_from(first)
        new = (known_from > row) & (known_from > first + 1)
        window, row = window[new], row[new]
    # All pools as one sorted list of (pool, item).
    count, items = pools.shape[1], exclusion.items
    keys = (np.arange(len(pools))[:, None] * items + pools).reshape(-1)
    order = np.argsort(keys, kind="stable")
    wanted = pool[window] * items + exclusion.item[row]
    low, high = (np.searchsorted(keys, wanted, side, sorter=order) for side in ("left", "right"))
    slots = Ranges(low, high)  # of more than one where a pool was drawn with replacement
    begin = np.repeat(row, slots.lengths)
    return begin, order[slots.rows] % count, begin + 1


def _of_all(exclusion: Exclusion, found: Windows, pools: Ints, pool: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The same for whatever is excluded, some windows at a time."""
    size = max(1, PAIRS // pools.shape[1])
    for begin, end in whole_runs(found.lengths, size):
        some = found.some(slice(begin, end))
        row, window = some.rows, np.repeat(np.arange(begin, end), some.lengths)
        hit = exclusion.excluded(row[:, None], pools[pool[window]]).T
        same = np.append(window[1:] == window[:-1], False)  # the next click is of the same window
        goes_on = np.zeros_like(hit)
        goes_on[:, :-1] = hit[:, :-1] & hit[:, 1:] & same[:-1]
        new, last = hit.copy(), hit & ~goes_on
        new[:, 1:] &= ~goes_on[:, :-1]
        slot, first = np.nonzero(new)
        yield row[first], slot, row[np.nonzero(last)[1]] + 1


def whole_runs(lengths: Ints, size: int) -> list[tuple[int, int]]:
    """[begin, end) of neighbours whose lengths make up about `size` together."""
    if not len(lengths):
        return []
    begins = np.flatnonzero(np.diff(np.cumsum(lengths) // size, prepend=-1))
    return list(zip(begins.tolist(), [*begins[1:].tolist(), len(lengths)], strict=True))


def _none() -> tuple[Ints, Ints, Ints]:
    nothing = np.zeros(0, np.int64)
    return nothing, nothing, nothing
