"""Probabilities as whole numbers: how many of the 2^53 numbers that a draw may come up with belong to each item.

What `log_q` says is then what is drawn, to the last bit, and what is excluded has an exact mass, whatever the order of
summing. Sums of weights are exact too, so each item's mass is the same whether the catalogue is at hand as a whole or
in parts that know nothing of each other but a few numbers (`Whole`). Linear in the items; 16 bytes an item meanwhile.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BITS = 53
ONE = 1 << BITS
_AT_ONCE = 1 << 24  # so many halves of mantissas sum up to less than 2^53


def exact_sum(values: Floats) -> Fraction:
    """The sum of finite numbers without any rounding: sums of parts add up to that of the whole."""
    total = Fraction(0)
    for begin in range(0, len(values), _AT_ONCE):
        fraction, exponent = np.frexp(values[begin : begin + _AT_ONCE])
        mantissa = (fraction * ONE).astype(np.int64)
        lowest = int(exponent.min(initial=0))
        high, low = (
            np.bincount(exponent - lowest, half.astype(np.float64)) for half in (mantissa >> 27, mantissa & (2**27 - 1))
        )
        for place in np.flatnonzero((high != 0) | (low != 0)).tolist():
            whole = (int(high[place]) << 27) + int(low[place])
            total += whole * Fraction(2) ** (place + lowest - BITS)
    return total


def floored(probabilities: Floats) -> Ints:
    """[items] masses before what rounding down leaves is given out; a positive probability never becomes nothing."""
    mass = np.floor(probabilities * ONE).astype(np.int64)
    mass[(probabilities > 0) & (mass == 0)] = 1
    return mass


@dataclass(frozen=True)
class Part:
    """What the rest of a catalogue needs to know of a part's floored masses."""

    total: int
    drawable: int
    largest: int

    @classmethod
    def of(cls, mass: Ints) -> "Part":
        """That of some items."""
        return cls(int(mass.sum()), int((mass > 0).sum()), int(mass.max(initial=0)))


@dataclass(frozen=True)
class Whole:
    """How what is missing to ONE is given out: one each to the first items that have mass, the rest to the heaviest.

    parts: of the catalogue, in order. There is as good as never a rest; it may be negative.
    """

    parts: tuple[Part, ...]

    @property
    def _missing(self) -> int:
        return ONE - sum(part.total for part in self.parts)

    def given(self, number: int) -> tuple[int, int]:
        """(to how many of a part's first items one is added, what its first heaviest item gets besides)."""
        before = sum(part.drawable for part in self.parts[:number])
        drawable = sum(part.drawable for part in self.parts)
        each = min(max(self._missing, 0), drawable)
        heaviest = max(range(len(self.parts)), key=lambda place: self.parts[place].largest)
        own = min(max(each - before, 0), self.parts[number].drawable)
        return own, self._missing - each if number == heaviest else 0

    def completed(self, mass: Ints, number: int) -> Ints:
        """[items of the part] its masses, of which those of all parts sum to ONE."""
        each, rest = self.given(number)
        complete = mass.copy()
        complete[np.flatnonzero(mass > 0)[:each]] += 1
        if rest:
            complete[np.argmax(mass)] += rest
        return complete

    def begins(self) -> list[int]:
        """[parts + 1] the sum of the masses before each part, and ONE."""
        begins = [0]
        for number, part in enumerate(self.parts):
            begins.append(begins[-1] + part.total + sum(self.given(number)))
        return begins


def whole(probabilities: Floats) -> Ints:
    """[items] masses of a whole catalogue; they sum to ONE."""
    mass = floored(probabilities)
    return Whole((Part.of(mass),)).completed(mass, 0)


def shares(weights: npt.ArrayLike) -> Floats:
    """[items] weights over their exact sum.

    Raises:
      ValueError: weights that are negative, not finite, or all zero.
    """
    checked = np.asarray(weights, np.float64)
    if checked.ndim != 1 or not np.isfinite(checked).all() or (checked < 0).any() or not (checked > 0).any():
        raise ValueError("draws need finite weights, none negative and at least one positive")
    smallest = np.where(checked > 0, np.nextafter(0, 1), 0.0)  # a quotient may be too small for a float
    return np.maximum(checked / float(exact_sum(checked)), smallest)


def added(sums: Iterable[Sequence[Fraction]]) -> list[Fraction]:
    """Column sums of what each part has."""
    return [sum(column, Fraction(0)) for column in zip(*sums, strict=True)]
