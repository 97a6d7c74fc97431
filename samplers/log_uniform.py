"""By rank alone, as TensorFlow's log_uniform_candidate_sampler does: P(k) = (log(k + 2) - log(k + 1)) / log(n + 1).

For: holding prebatched runs against in-graph ones like for like; item_index is the rank by training frequency, which is
what that sampler expects of its classes. Close to Zipf's law, so between uniform and popularity. Bias: ranks stand for
frequencies; where these fall faster or slower than 1 / rank, popular items come too seldom or too often, which log_q
undoes. Unclicked items are drawn too, the further down the less. Cost: that of any catalogue-wide strategy.
"""

import numpy as np
import numpy.typing as npt


def weights(counts: npt.NDArray[np.int64], first: int = 0) -> npt.NDArray[np.float64]:
    """[items] weights by position, which is `first` for the first of them; the counts themselves do not matter."""
    ranks = np.arange(first, first + len(counts), dtype=np.float64)
    return np.log1p(1 / (ranks + 1))
