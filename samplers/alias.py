"""Walker's alias table (Walker 1977, Vose 1991), built by prefix sums instead of work lists.

A draw costs one uniform number and two look-ups for any number of items. Probabilities are integers: `mass[i] / one`,
so sums over excluded items are exact, and what `log_q` says is what the table does, to the 53 bits of the uniform
number. The build follows the sweep of Hübschle-Schneider & Sanders (2022): light items are filled, in order, by the
heavy ones, in order; who fills whom follows from two cumulative sums. Linear in time; 12 bytes an item, and 8 for the
mass.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TOTAL = 1 << 62


@dataclass(frozen=True)
class AliasTable:
    """threshold [n] in [0, 1], alias [n], mass [n] with mass.sum() == one."""

    threshold: Floats
    alias: npt.NDArray[np.int32]
    mass: Ints
    one: int

    @property
    def probabilities(self) -> Floats:
        """[n], what a draw really follows."""
        return self.mass / self.one

    def pick(self, uniform: Floats) -> Ints:
        """Indices drawn with uniform numbers in [0, 1), of their shape."""
        scaled = uniform * len(self.mass)
        column = scaled.astype(np.int64)
        np.minimum(column, len(self.mass) - 1, out=column)
        scaled -= column
        return np.where(scaled < self.threshold.take(column), column, self.alias.take(column))


def alias_table(weights: npt.ArrayLike) -> AliasTable:
    """The table that draws in proportion to non-negative weights [n].

    Raises:
      ValueError: weights that are negative, not finite, or all zero.
    """
    mass, share = _integer_mass(np.asarray(weights, np.float64))
    light = np.flatnonzero(mass < share)
    heavy = np.flatnonzero(mass >= share)
    deficit = np.cumsum(share - mass[light])
    excess = np.cumsum(mass[heavy] - share)
    residual = np.full(len(mass), share)
    alias = np.arange(len(mass), dtype=np.int32)
    residual[light] = mass[light]
    # Before light item i the heavy ones have given deficit[i - 1]; the first with more than that in reserve fills it.
    before = np.concatenate([[0], deficit[:-1]]) if len(light) else deficit
    alias[light] = heavy[np.searchsorted(excess, before, side="right")]
    # Heavy item j gives until its reserve is spent; what it then lacks comes from the next heavy one.
    spent = (
        np.concatenate([deficit, deficit[-1:]])[np.searchsorted(deficit, excess[:-1], side="left")] if len(light) else 0
    )
    residual[heavy[:-1]] = share + np.minimum(excess[:-1] - spent, 0)
    alias[heavy[:-1]] = heavy[1:]
    return AliasTable(residual / share, alias, mass, share * len(mass))


def _integer_mass(weights: Floats) -> tuple[Ints, int]:
    """(mass [n], share) with mass.sum() == n * share; a positive weight never rounds to nothing."""
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not (weights > 0).any():
        raise ValueError("an alias table needs finite weights, none negative and at least one positive")
    share = _TOTAL // len(weights)
    one = share * len(weights)
    mass = np.floor(weights / weights.sum() * one).astype(np.int64)
    mass[(weights > 0) & (mass == 0)] = 1
    mass[np.argmax(weights)] += one - int(mass.sum())
    return mass, share
