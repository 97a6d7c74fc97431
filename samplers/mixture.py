"""Several strategies at once: q(i) = sum of share_j * q_j(i).

For: the strengths of each, such as popular negatives with a tenth of uniform ones (Mixed Negative Sampling, Yang et al.
2020). What must be subtracted is the probability under the whole mixture, whichever component an item came from; adding
the weights gives exactly that, and drawing needs no second choice.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def weights(parts: Sequence[tuple[float, Floats]]) -> Floats:
    """[items] probabilities of the mixture of (share, weights [items]) parts; shares need not sum to one.

    Raises:
      ValueError: a part without any weight, which could not be drawn from.
    """
    total = sum(share for share, _ in parts)
    if any(not (part > 0).any() for _, part in parts):
        raise ValueError("a strategy has no item to draw from: no item has a training click")
    mixed: Floats = np.sum([share / total * part / part.sum() for share, part in parts], axis=0)
    return mixed
