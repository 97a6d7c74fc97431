"""Every item of the catalogue alike.

For: items that were never clicked get negatives too, so that they do not float to the top unseen. Bias: none to
correct, log_q is the same for all. Cost: most draws are easy negatives; popular items are under-represented among them.
"""

import numpy as np
import numpy.typing as npt


def weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[items] weights, one each."""
    return np.ones(len(counts))
