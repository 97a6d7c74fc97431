"""Hard negatives out of a ranking of the whole catalogue: which ranks, and which of the items there.

The very top of a trained model's ranking holds what the user would have liked, so a window of ranks further down is
taken (101 to 500, say), and `count` of its items are drawn: uniformly, or by softmax(score / temperature) without
replacement (Gumbel-top-k, Kool 2019), as the second pass of TAPAS draws (Bai, Goldman and Zhang 2017).

Scores are products of blocks, never a whole [clicks, items] matrix, and rounded to float32. They are taken of whole
numbers, short enough for float64 to hold any sum of them: a library of linear algebra adds in an order that depends on
the processor and on a row's place in its block, and here no order reaches a score. Equal scores rank by index. So what
is mined for a click depends on nothing but its vector, the catalogue and the seed. Of a vector of 64 each number is
kept to 23 bits of the largest; float32 itself has 24.

Cost: [BLOCK_CLICKS, BLOCK_ITEMS] float64, float32 and int64, 80 MiB; a product and a partition of 8 bytes a click and
item, so two cores do some 10^7 to 10^8 pairs a second.
"""

import numpy as np
import numpy.typing as npt

from samplers import rng

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

BLOCK_CLICKS, BLOCK_ITEMS = 256, 1 << 14
NOTHING = -1  # stands where a click has fewer ranked items


def ranked(vectors: Floats, items: Floats, left_out: tuple[Ints, Ints], last: int) -> tuple[Ints, Floats]:
    """([clicks, last] items by falling score, NOTHING behind them; their scores) of some clicks.

    Args:
      vectors: [clicks, d]. items: [items, d], by item_index. left_out: (item indices one click after the other, offsets
        [clicks + 1]) of what is not ranked.
      last: ranks that are wanted, from 1.
    """
    parts = [
        _block(vectors[begin : begin + BLOCK_CLICKS], items, _rows(left_out, begin), last)
        for begin in range(0, len(vectors), BLOCK_CLICKS)
    ]
    if not parts:
        return np.zeros((0, last), np.int64), np.zeros((0, last), np.float32)
    return np.concatenate([index for index, _ in parts]), np.concatenate([scores for _, scores in parts])


def _rows(left_out: tuple[Ints, Ints], begin: int) -> tuple[Ints, Ints]:
    """(row within the block, item) of what is left out for a block's clicks."""
    values, offsets = left_out
    edges = offsets[begin : begin + BLOCK_CLICKS + 1]
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges)), values[edges[0] : edges[-1]]


def _block(vectors: Floats, items: Floats, left_out: tuple[Ints, Ints], last: int) -> tuple[Ints, Floats]:
    clicks, row, item = len(vectors), *left_out
    numbers, scale = whole(vectors)
    best = np.full((clicks, 0), 0, np.int64)
    for first in range(0, len(items), BLOCK_ITEMS):
        others, other_scale = whole(items[first : first + BLOCK_ITEMS])
        scores = np.ldexp(numbers @ others.T, scale[:, None] + other_scale).astype(np.float32)
        here = (item >= first) & (item < first + BLOCK_ITEMS)
        scores[row[here], item[here] - first] = np.nan
        best = np.concatenate([best, ordinal(scores, np.arange(first, first + scores.shape[1]))], axis=1)
        if best.shape[1] > last:
            best = np.partition(best, last - 1, axis=1)[:, :last]
    best = np.sort(best, axis=1)[:, :last]
    index, scores = from_ordinal(best)
    if index.shape[1] < last:
        behind = ((0, 0), (0, last - index.shape[1]))
        index, scores = np.pad(index, behind, constant_values=NOTHING), np.pad(scores, behind, constant_values=-np.inf)
    return index, scores


def whole(vectors: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """(vectors [n, d] as whole numbers, exponents [n]): each vector is its numbers times two to its exponent, rounded.

    Sums of d products of such numbers stay below 2^53, so that they are exact in any order.
    """
    bits = (53 - vectors.shape[1].bit_length()) // 2
    largest = np.abs(vectors).max(axis=1, initial=0)
    exponent = np.where(np.isfinite(largest), np.frexp(largest)[1], 0) - bits
    return np.rint(np.ldexp(vectors.astype(np.float64), -exponent[:, None])), exponent.astype(np.int32)


_LAST = np.int64(np.iinfo(np.int64).max)


def ordinal(scores: Floats, index: Ints) -> Ints:
    """[clicks, items] numbers that rise as scores fall and, among equal ones, as the index rises; NaN comes last.

    index: of the items, [items] or [clicks, items], from 0 and below 2^32.
    """
    positive = np.add(scores, np.float32(0))  # -0 and 0 are one score
    bits = positive.view(np.int32).astype(np.int64)
    rising = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    found = (-rising << 32) + index
    return np.where(np.isnan(scores), _LAST, found)


def from_ordinal(numbers: Ints) -> tuple[Ints, Floats]:
    """(indices, scores) of what `ordinal` gave; NOTHING and -inf for NaN."""
    nothing = numbers == _LAST
    rising = -(numbers >> 32)
    bits = np.where(rising >= 0, rising, (-rising) | np.int64(0x80000000))
    scores = bits.astype(np.uint32).view(np.float32)
    return np.where(nothing, NOTHING, numbers & 0xFFFFFFFF), np.where(nothing, np.float32(-np.inf), scores)


def sampled(
    index: Ints, scores: Floats, keys: rng.Keys, first: int, count: int, temperature: float | None
) -> tuple[Ints, Ints]:
    """(items one click after the other, by falling score; how many of each) out of ranks from `first` on.

    Without replacement; all of a window that holds no more than `count`. Determined by the keys, and by nothing else.

    Args:
      index, scores: [clicks, last], as `ranked` gives them. keys: [clicks] uint64.
      first: the best rank to be taken, from 1. temperature: None draws uniformly.
    """
    index, scores = index[:, first - 1 :], scores[:, first - 1 :]
    there = index != NOTHING
    luck = rng.uniforms(keys[:, None], np.arange(index.shape[1])[None, :])
    if temperature is not None:
        gumbel = -np.log(-np.log(np.maximum(luck, 2.0**-54)))
        luck = np.where(there, scores.astype(np.float64), 0) / temperature + gumbel
    luck = np.where(there, luck, -np.inf)
    taken = np.zeros(index.shape, bool)
    np.put_along_axis(taken, np.argsort(-luck, axis=1, kind="stable")[:, :count], True, axis=1)
    taken &= there
    return index[taken], taken.sum(axis=1)
