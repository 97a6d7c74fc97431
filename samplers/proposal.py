"""What negatives are drawn from: a distribution over the catalogue, and draws from it with their exact probability.

A strategy over the whole catalogue turns training counts into weights (`samplers.strategies`). A mixture of such
strategies is again one distribution, so it costs one table and its probabilities are right for the sum.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from samplers import mass, mixture, rng
from samplers.inversion import InversionTable, Positions, of_mass
from samplers.strategies import CATALOGUE_WIDE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Component = tuple[str, float, Mapping[str, Any]]


class Proposal(Protocol):
    """Draws negatives. `mass` [items] and `one` are its probabilities as exact integers: q = mass / one."""

    @property
    def mass(self) -> Ints: ...

    @property
    def one(self) -> int: ...

    @property
    def end(self) -> Ints:
        """[items] running sum of `mass`: an item is at the positions from where the one before it ends."""
        ...

    def items(self, position: Positions) -> Ints:
        """The items at positions in [0, one), of their shape."""
        ...

    def draw(self, keys: rng.Keys, counters: npt.ArrayLike) -> Ints:
        """Item indices for keys and counters, broadcast against each other; independent for different pairs."""
        ...

    def log_expected(self, items: Ints, count: int) -> Floats:
        """log of the expected count of each item among `count` independent draws: log count + log q(item)."""
        ...


@dataclass(frozen=True)
class CatalogueProposal:
    """A fixed distribution over the catalogue, the same for every click."""

    table: InversionTable

    @property
    def mass(self) -> Ints:
        return self.table.mass

    @property
    def one(self) -> int:
        return self.table.one

    @property
    def end(self) -> Ints:
        return self.table.end

    def items(self, position: Positions) -> Ints:
        return self.table.items(position)

    def draw(self, keys: rng.Keys, counters: npt.ArrayLike) -> Ints:
        return self.items(rng.positions(keys, counters))

    def log_expected(self, items: Ints, count: int) -> Floats:
        logs: Floats = self._log_q.take(items)
        logs += math.log(count)
        return logs

    @functools.cached_property
    def _log_q(self) -> Floats:
        """[items] kept, as each is asked for many times and a logarithm costs several times a look-up."""
        with np.errstate(divide="ignore"):
            logs: Floats = np.log(self.mass / self.one)
        return logs


def proposal(
    components: Sequence[Component],
    frequencies: Ints | Floats,
    clicks: Ints | None = None,
    ranks: Ints | None = None,
    gone: npt.NDArray[np.bool_] | None = None,
) -> CatalogueProposal:
    """The proposal of (strategy, share, parameters) components over frequencies [items].

    clicks: [items] training clicks, which `in_batch` goes by, where frequencies count something else. ranks: [items]
    by falling clicks, where items are in another order. gone: [items] those that cannot be drawn any more.

    Raises:
      ValueError: no item can be drawn.
    """
    parts = weighed(components, frequencies, clicks, ranks=ranks)
    if gone is not None:
        parts = [(share, np.where(gone, 0.0, weights)) for share, weights in parts]
    sums = [mass.exact_sum(weights) for _, weights in parts]
    return CatalogueProposal(of_mass(mass.whole(mixture.weights(parts, sums))))


def weighed(
    components: Sequence[Component],
    frequencies: Ints | Floats,
    clicks: Ints | None = None,
    first: int = 0,
    ranks: Ints | None = None,
) -> list[tuple[float, Floats]]:
    """(share, weights [items]) of each component, for the items from item_index `first` on, or of these `ranks`."""
    counted = {"in_batch": frequencies if clicks is None else clicks}
    by_rank = {"log_uniform": {"first": first, "ranks": ranks}}
    return [
        (share, CATALOGUE_WIDE[name](counted.get(name, frequencies), **parameters, **by_rank.get(name, {})))
        for name, share, parameters in components
    ]
