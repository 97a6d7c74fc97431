"""Several strategies at once: one distribution of those over the catalogue, slots of their own for the others.

For: the strengths of each, such as popular negatives with a tenth of uniform ones (Mixed Negative Sampling, Yang et al.
2020). What must be subtracted is the probability under the whole mixture, whichever component an item came from. Of
strategies over the whole catalogue, q(i) = sum of share_j * q_j(i): adding the weights gives exactly that, and drawing
needs no second choice. Strategies that depend on the click get so many of its K slots, the same number for every click,
and expected counts are summed (`samplers.composition`).
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def weights(parts: Sequence[tuple[float, Floats]], sums: Sequence[Fraction]) -> Floats:
    """[items] probabilities of the mixture of (share, weights [items]) parts; shares need not sum to one.

    sums: of each part's weights over the whole catalogue, of which `parts` may hold some items only.

    Raises:
      ValueError: a part without any weight, which could not be drawn from.
    """
    total = sum(share for share, _ in parts)
    if not all(sums):
        raise ValueError("a strategy has no item to draw from: no item has a training click")
    mixed = np.zeros(len(parts[0][1]))
    for (share, part), whole in zip(parts, sums, strict=True):
        mixed += share / total * part / float(whole)
    return mixed


def slots(shares: Sequence[float], count: int) -> list[int]:
    """How many of `count` slots each share gets, by largest remainder; of equal remainders the first one wins."""
    quotas = np.asarray(shares, np.float64) / sum(shares) * count
    whole = np.floor(quotas + 1e-9).astype(np.int64)
    remainders = np.round(quotas - whole, 9)
    largest = np.argsort(-remainders, kind="stable")[: count - int(whole.sum())]
    whole[largest] += 1
    return [int(number) for number in whole]
