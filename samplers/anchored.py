"""Draws for a user who knows nearly all that is ever drawn, from little more than what is left.

Where seven draws of eight are refused, it takes many to fill a slot. So every `EVERY` clicks of a user there is an
anchor: what the user knew there is cut out of the line of the catalogue, once for all clicks up to the next anchor, and
refused is only what has been clicked on since. Where an anchor stands follows from the user's own clicks, so a draw
depends on nothing else. Exact: whatever may be drawn lies in the rest of the line, in proportion to its mass.

Cost: a search a draw, and for each anchor its user's known items, 30 bytes each, one anchor at a time.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from samplers.proposal import Proposal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EVERY = 1 << 12  # clicks; who has fewer has no anchor
SHARE = 8  # where less than one part in so many is left, a draw from it is worth its search


class Knowing(Protocol):
    """Clicks sorted by user and time, and the items of their histories."""

    @property
    def start(self) -> Ints:
        """[n] the row of the first click of each click's user."""
        ...

    def known(self, row: int) -> Ints:
        """The items that are excluded for a click and all later ones of its user, rising."""
        ...


def worth(one: int, clicks: Knowing, row: Ints, excluded_mass: Ints) -> Bools:
    """[s] whether clicks at rows [s] are drawn for from their anchors; one: the mass of all items."""
    return (excluded_mass > one - one // SHARE) & (row - clicks.start[row] >= EVERY)


def draw(proposal: Proposal, clicks: Knowing, row: Ints, uniform: Floats) -> Ints:
    """[s] draws for clicks at rows [s] that have an anchor and something left to draw.

    uniform: [s] in [0, 1).
    """
    anchor = row - (row - clicks.start[row]) % EVERY
    position = np.empty(len(row), np.int64)
    order = np.argsort(anchor, kind="stable")
    anchors, begins = np.unique(anchor[order], return_index=True)
    for own, some in zip(anchors.tolist(), np.split(order, begins[1:]), strict=True):
        known = clicks.known(own)
        taken = np.concatenate([[0], np.cumsum(proposal.mass[known])])
        left = proposal.one - int(taken[-1])
        target = np.minimum((uniform[some] * left).astype(np.int64), left - 1)
        # A target passes a known item from where that would begin if those before it took no room.
        passed_at = proposal.end[known] - proposal.mass[known] - taken[:-1]
        position[some] = target + taken[np.searchsorted(passed_at, target, side="right")]
    return proposal.items(position)
