"""All of a click's negatives: catalogue-wide draws and the parts that depend on the click, with one log_q for the sum.

Of K negatives each part has its slots; what it cannot fill for a click (a short list, a tiny group) the catalogue-wide
proposal draws. How many slots each one fills follows from the click alone, not from chance, so the expected count of an
item among the K draws is a plain sum, whichever part it came from:

    K0 q(i) / allowed  +  sum over groups K_g q_g(i) / allowed_g  +  sum over lists n / L [i in the list]

The positive's own is the same sum before exclusion, as TensorFlow's true_expected_count. Cost: a search a list and
candidate beside the draws themselves.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samplers import rng
from samplers.allowed import draw_allowed
from samplers.inversion import Positions
from samplers.part import Part
from samplers.proposal import Proposal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Counted:
    """A proposal that counts the draws it was asked for."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal, self.mass, self.end, self.one = proposal, proposal.mass, proposal.end, proposal.one
        self.draws = 0

    def items(self, position: Positions) -> Ints:
        return self.proposal.items(position)

    def draw(self, keys: rng.Keys, counters: npt.ArrayLike) -> Ints:
        drawn = self.proposal.draw(keys, counters)
        self.draws += drawn.size
        return drawn

    def log_expected(self, items: Ints, count: int) -> Floats:
        return self.proposal.log_expected(items, count)


@dataclass(frozen=True)
class Composition:
    """What `count` negatives of each of n clicks are made of.

    exclusion: what may not be drawn, excluded [n] its mass under the proposal. positive: [n] the clicks' own items.
    """

    proposal: Counted
    exclusion: Any
    excluded: Ints
    positive: Ints
    count: int
    parts: Sequence[Part]

    @functools.cached_property
    def taken(self) -> Ints:
        """[n, 1 + parts] slots that each fills, the catalogue-wide proposal first; rows sum to `count`."""
        taken = np.stack([np.zeros(len(self.positive), np.int64), *(part.taken for part in self.parts)], axis=1)
        taken[:, 0] = self.count - taken.sum(axis=1)
        return taken

    def draw(self, keys: Sequence[rng.Keys], rows: Ints) -> Ints:
        """[rows, count] items, part after part, for clicks that have some mass left.

        Args:
          keys: for the proposal and each part, [rows] one key a click, which alone decides its draws.
        """
        if not self.parts:
            return draw_allowed(self.proposal, keys[0], self.count, self.exclusion, rows, self.excluded[rows])
        drawn = np.empty((len(rows), self.count), np.int64)
        taken = self.taken[rows]
        for own in np.unique(taken[:, 0]):
            some = np.flatnonzero(taken[:, 0] == own)
            drawn[some, :own] = draw_allowed(
                self.proposal, keys[0][some], int(own), self.exclusion, rows[some], self.excluded[rows[some]]
            )
        begin = taken[:, 0]
        for number, part in enumerate(self.parts, start=1):
            found = part.draw(keys[number], rows)
            row, slot = np.nonzero(np.arange(part.slots) < taken[:, number][:, None])
            drawn[row, begin[row] + slot] = found[row, slot]
            begin = begin + taken[:, number]
        return drawn

    def log_q(self, rows: Ints, candidates: Ints) -> Floats:
        """[rows, m] log of the expected count of candidates [rows, m] among each click's draws, the positive first."""
        own = self.taken[rows, 0] / self.proposal.one
        expected = own[:, None] * self.proposal.mass[candidates]
        allowed = np.maximum(self.proposal.one - self.excluded[rows], 1)  # where there is none, nothing is drawn
        expected[:, 1:] *= (self.proposal.one / allowed)[:, None]
        for part in self.parts:
            expected[:, 0] += part.expected_of_positive(rows)
            expected[:, 1:] += part.expected(rows, candidates[:, 1:])
        with np.errstate(divide="ignore"):
            logs: Floats = np.log(expected)
        return logs
