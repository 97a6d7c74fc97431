"""Cuts a user's training clicks into windows: what a sequence record holds, each click in one of them.

A user with no more clicks than a window is one window. A longer one is cut every `window` clicks, first at an offset
that (seed, epoch) decides, so that another click loses sight of what was before it in every set of negatives.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.history import Ranges
from pipelines.plan import Plan
from samplers import rng

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """[w] windows: their clicks are the rows [begin, end). order: where each stands in the shuffled training order.
    kind: the class of its length, see `schemas.record.window_classes`.
    """

    begin: Ints
    end: Ints
    order: rng.Keys
    kind: Ints

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def lengths(self) -> Ints:
        """[w] clicks of each."""
        return self.end - self.begin

    @functools.cached_property
    def rows(self) -> Ints:
        """[clicks] rows of all windows, one window after the other."""
        return Ranges(self.begin, self.end).rows

    def some(self, which: Ints | slice) -> "Windows":
        """Those of these numbers."""
        return Windows(self.begin[which], self.end[which], self.order[which], self.kind[which])


def windows(first: Ints, train: npt.NDArray[np.bool_], click_key: Ints, plan: Plan, epoch: int) -> Windows:
    """The windows of one set of negatives.

    Args:
      first: [n] the row of each click's user's first click; clicks are sorted by user and time.
      train: [n] clicks to train on, of each user the earliest ones.
      click_key: [n].
    """
    user = np.unique(first)
    clicks = np.add.reduceat(train, user, dtype=np.int64) if len(user) else np.zeros(0, np.int64)
    longest = plan.record.window
    numbers = rng.numbers(plan.window_keys(click_key[user], epoch), 0)
    offset = 1 + ((numbers >> np.uint64(33)).astype(np.int64) * longest >> 31)
    begin, end = cut(user, clicks, offset, longest)
    return Windows(begin, end, plan.order(click_key[begin], epoch), np.searchsorted(plan.classes, end - begin))


def cut(user: Ints, clicks: Ints, offset: Ints, longest: int) -> tuple[Ints, Ints]:
    """(begin, end) of windows [w] of at most `longest` rows, user by user.

    Args:
      user: [users] the first row of each. clicks: [users] rows of each that are cut up, from the first on.
      offset: [users] rows of the first window of a user with more than `longest` of them.
    """
    offset = np.where(clicks > longest, offset, clicks)
    counts = np.where(clicks > longest, 1 - (offset - clicks) // longest, clicks > 0)
    owner = np.repeat(np.arange(len(user)), counts)
    number = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    begin = user[owner] + np.where(number == 0, 0, offset[owner] + (number - 1) * longest)
    end = user[owner] + np.minimum(offset[owner] + number * longest, clicks[owner])
    return begin, end
