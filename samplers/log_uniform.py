"""By rank alone, as TensorFlow's log_uniform_candidate_sampler does: P(k) = (log(k + 2) - log(k + 1)) / log(n + 1).

For: holding prebatched runs against in-graph ones like for like; that sampler expects classes to be numbered by falling
training frequency, as item_index is where nothing is inherited; where it is not, ranks are given. Close to Zipf's law,
so between uniform and popularity. Bias: ranks stand for frequencies; where these fall faster or slower than 1 / rank,
popular items come too seldom or too often, which log_q undoes. Unclicked items are drawn too, the further down the
less. Cost: that of any catalogue-wide strategy.
"""

import numpy as np
import numpy.typing as npt


def weights(
    counts: npt.NDArray[np.int64], first: int = 0, ranks: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float64]:
    """[items] weights by rank: `ranks`, else positions from `first` on; the counts themselves do not matter."""
    if ranks is None:
        ranks = np.arange(first, first + len(counts))
    return np.log1p(1 / (ranks.astype(np.float64) + 1))
