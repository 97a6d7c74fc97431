"""Observed against declared draws: Pearson's chi-square with its p-value, and the Kullback-Leibler divergence.

The counts that are compared are sums over many clicks, each with its own excluded items, so their expectation is a sum
of conditional probabilities; the statistic is then a little smaller than chi-square, never larger: it errs to the safe
side. The p-value is the regularised upper incomplete gamma function by its series or continued fraction (Lentz).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Result of holding counts against their expectation; kl is in nats, of observed from declared."""

    draws: int
    chi_square: float
    degrees: int
    p_value: float
    kl: float


def compare(observed: npt.ArrayLike, expected: npt.ArrayLike, least: float = 5.0) -> Comparison:
    """Chi-square over cells [n], neighbours merged until each expects at least `least` draws.

    A draw where none is expected makes the p-value 0, since no chance explains it.
    """
    seen, declared = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    total = float(seen.sum())
    impossible = bool(((declared <= 1e-9) & (seen > 0)).any())
    if total == 0 or declared.sum() <= 0:
        return Comparison(int(total), 0.0, 0, 0.0 if impossible else 1.0, 0.0)
    declared = declared * (total / declared.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(seen > 0, seen / total * np.log(seen / declared), 0.0)
    cells = np.floor(np.cumsum(declared) / least - 1e-9).astype(np.int64)
    cells = np.minimum(cells, max(int(total / least) - 1, 0))
    _, cells = np.unique(cells, return_inverse=True)
    seen, declared = (np.bincount(cells, values).astype(np.float64) for values in (seen, declared))
    kept = declared > 0
    chi_square = float(((seen[kept] - declared[kept]) ** 2 / declared[kept]).sum())
    degrees = int(kept.sum()) - 1
    p_value = 0.0 if impossible else upper_gamma(degrees / 2, chi_square / 2) if degrees > 0 else 1.0
    return Comparison(int(total), _told(chi_square), degrees, _told(p_value), _told(float(terms.sum())))


def _told(figure: float) -> float:
    """Nine digits: expectations are summed up task by task, and the order of tasks reaches those behind."""
    return float(f"{figure:.9g}")


def upper_gamma(a: float, x: float) -> float:
    """Q(a, x), the regularised upper incomplete gamma function, to about 1e-12."""
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        step = a
        while abs(term) > abs(total) * 1e-15:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1 - total * scale)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for i in range(1, 100_000):
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, fraction * scale)
