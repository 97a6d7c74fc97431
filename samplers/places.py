"""Draws where only a few items are known by their place, and the rest of the catalogue is not at hand.

A draw is a position in [0, ONE), and which item lies there may be told later, by whoever has it. What must be known at
once is whether a draw falls on one of the items that may not be drawn, and for that their own places are enough. So a
table is made of the items at hand and of the gaps between them: item j at hand has number 2 j + 1 in it, the gap before
it 2 j. Masses are those of the whole catalogue, so what is excluded, what remains and what is drawn by inversion is the
same, to the last bit, as with all items at hand. 32 bytes an item at hand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplers import rng
from samplers.exclusion import Exclusion
from samplers.inversion import InversionTable, Positions, of_mass
from samplers.mass import ONE
from samplers.proposal import CatalogueProposal
from samplers.spans import Spans

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def with_gaps(begin: Ints, mass: Ints) -> InversionTable:
    """The table of items [m] at rising places, each with its mass, and of the m + 1 gaps around them."""
    table = np.empty(2 * len(mass) + 1, np.int64)
    table[1::2] = mass
    table[::2] = np.append(begin, ONE) - np.concatenate([[0], begin + mass])
    return of_mass(table)


@dataclass(frozen=True)
class PlacedProposal(CatalogueProposal):
    """A distribution over the catalogue whose draws are positions; everything else is said of the table's items."""

    def items(self, position: Positions) -> Ints:
        return position

    def draw(self, keys: rng.Keys, counters: npt.ArrayLike) -> Positions:
        return rng.positions(keys, counters)


@dataclass(frozen=True)
class PlacedExclusion:
    """What may not be drawn, asked about positions. among: of the table's items, `table` finds."""

    among: Exclusion
    table: InversionTable

    @property
    def availability(self) -> None:
        """What comes and goes is not known by its place."""
        return None

    @property
    def times(self) -> Ints:
        """See `Exclusion.times`."""
        return self.among.times

    @property
    def start(self) -> Ints:
        """See `Exclusion.start`."""
        return self.among.start

    def known(self, row: int) -> Ints:
        """See `Exclusion.known`: items of the table."""
        return self.among.known(row)

    def excluded(self, row: Ints, position: Positions) -> Bools:
        """[of the positions' shape] whether each falls on an item that may not be drawn for the click beside it."""
        return self.among.excluded(row, self.table.items(position))

    def runs(self) -> list[Spans]:
        """See `Exclusion.runs`: of items of the table."""
        return self.among.runs()

    def sizes(self, rows: Ints) -> Ints:
        """See `Exclusion.sizes`."""
        return self.among.sizes(rows)

    def lists(self, rows: Ints) -> tuple[Ints, Ints]:
        """See `Exclusion.lists`: items of the table."""
        return self.among.lists(rows)
