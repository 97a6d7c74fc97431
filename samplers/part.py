"""A part of a click's negatives that depends on the click: its slots, its draws, and how often it draws an item.

Strategies over the whole catalogue are one distribution and need none of this. The others each implement `Part`; what
one cannot fill for a click goes back to the catalogue-wide part, so a click has all of its K negatives.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from samplers import rng
from samplers.availability import Availability
from samplers.spans import Spans

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NOTHING = -1  # stands in the slots that a part does not fill


class Excluding(Protocol):
    """What may not be drawn for each of n clicks, told by their rows; `samplers.exclusion` has it."""

    def excluded(self, click: Ints, item: Ints, /) -> Bools:
        """Whether each item may not be drawn for the click (a row) beside it."""
        ...

    def mass(self, mass: Ints, label: Ints | None = None, /) -> Ints:
        """[n] summed mass of what may not be drawn; with `label` [items], of items labelled like the click's own."""
        ...

    @property
    def availability(self) -> Availability | None:
        """What is excluded by time alone, of which `runs` say nothing."""
        ...

    def runs(self, label: Ints, /) -> list[Spans]:
        """What else is excluded for runs of clicks, an item once a click: items labelled like the click's own."""
        ...

    def items_of(self, click: int, /) -> Ints:
        """Every item that may not be drawn for one click."""
        ...


class Part(Protocol):
    """slots: what the part has of every click's K. taken [n]: how many of them it fills for each click.

    refused: draws and list entries turned down so far because the click excludes them.
    """

    slots: int
    taken: Ints
    refused: int

    def draw(self, keys: rng.Keys, rows: Ints) -> Ints:
        """[rows, slots] items: `taken` of them, then NOTHING. A key decides its click's draws, in any company."""
        ...

    def expected(self, rows: Ints, items: Ints) -> Floats:
        """How often the part draws each of items [rows, m], none of them excluded, for the click of its row."""
        ...

    def expected_of_positive(self, rows: Ints) -> Floats:
        """[rows] the same for the click's own item before any exclusion, as TensorFlow's true_expected_count."""
        ...

    def expected_by(self, cell: Ints, cells: int, clicks: Floats) -> Floats:
        """[cells] expected draws by the cell [items] of an item, of `clicks` [n] sets of negatives of each click."""
        ...

    def expected_by_item(self, clicks: Floats) -> Floats:
        """[items] the same by item, or nearly so where that would take too long."""
        ...
