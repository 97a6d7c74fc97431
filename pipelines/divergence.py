"""How far two distributions lie apart: PSI and KL over counts, and how much of a PSI is chance.

PSI, the population stability index of credit scoring (Siddiqi, Credit Risk Scorecards, 2006), is Jeffreys' divergence,
KL(p, q) + KL(q, p). Its usual reading: below 0.1 nothing has moved, above 0.25 the population is another one. That
holds for ten bins and many rows. Between two samples of the same population it is about (cells - 1) (1/n + 1/m)
(Yurdakul and Naranjo, Journal of Risk Model Validation 14(4), 2020), which for thousands of items and one day's clicks
is more than 0.25, so whoever judges a PSI subtracts that first.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SMOOTHING = 0.5  # added to each cell (Jeffreys' prior), so that a value which only one side has gives a finite number
LEAST = 20  # cells with fewer counts on both sides together are one cell: the approximation above needs some in each


def psi(before: Floats, after: Floats) -> float:
    """Sum of (p - q) ln(p / q) over the cells; p and q are the counts [cells], smoothed, as shares."""
    p, q = shares(before), shares(after)
    return float(np.sum((p - q) * np.log(p / q)))


def kl(before: Floats, after: Floats) -> float:
    """KL divergence of `after` from `before` in nats: sum of q ln(q / p)."""
    p, q = shares(before), shares(after)
    return float(np.sum(q * np.log(q / p)))


def by_chance(cells: int, before: float, after: float) -> float:
    """The PSI to be expected between two samples of these sizes from one distribution over so many cells."""
    return max(cells - 1, 0) * (1 / before + 1 / after)


def pooled(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Both without cells that neither has; rare ones, fewer than LEAST counts together, are one cell at the end.

    A cell that nobody is ever in, such as `missing` where nothing is, varies by no chance.
    """
    there = before + after > 0
    before, after = before[there], after[there]
    rare = before + after < LEAST
    if rare.sum() < 2:
        return before, after
    first, second = (np.append(counts[~rare], counts[rare].sum()) for counts in (before, after))
    return first, second


def shares(counts: Floats) -> Floats:
    """Smoothed shares [cells] of counts."""
    smoothed = np.asarray(counts, np.float64) + SMOOTHING
    result: Floats = smoothed / smoothed.sum()
    return result
