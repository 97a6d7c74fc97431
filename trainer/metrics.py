"""Full-catalogue metrics: every held-out click against every item, no sampled shortcuts (Krichene & Rendle 2020).

Plain numpy in blocks of clicks, so that 30,000 clicks x 92,000 items need some 100 MB and not 11 GB.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

TOP = 10
CUTOFFS = (10, 50, 100)
COLD_CLICKS = 5
BLOCK_CELLS = 4 << 20  # scores held at a time: 16 MiB, and twice as much to sort them


@dataclass(frozen=True)
class Ranking:
    """rank: int64 [n], items before the positive, 0 is best. top: int64 [n, 10], the best items, -1 for none."""

    rank: Ints
    top: Ints


def rank(
    score: Callable[[int, int], Floats],
    positive: Ints,
    items: int,
    exclude: tuple[Ints, Ints] | None = None,
    with_top: bool = True,
) -> Ranking:
    """The rank of each click's positive in the whole catalogue.

    Ties count against the model: an item with the positive's own score stands before it, so constant scores rank last.
    A positive that is excluded itself (a repeated click) cannot be recommended and ranks last, as NaN scores do.

    Args:
      score: float32 [stop - start, items] scores of the clicks start to stop (end excluded).
      positive: int64 [n], item_index.
      items: size of the catalogue.
      exclude: (values, lengths): item_index of what to leave out, all clicks behind each other, and how many for each.
      with_top: False leaves `top` empty, which is faster.
    """
    clicks = len(positive)
    ranks = np.zeros(clicks, np.int64)
    best = np.full((clicks if with_top else 0, TOP), -1, np.int64)
    starts = None if exclude is None else np.concatenate([[0], np.cumsum(exclude[1])])
    for start, stop in blocks(clicks, items):
        scores = np.array(score(start, stop), np.float32)
        scores[np.isnan(scores)] = -np.inf
        if exclude is not None and starts is not None:
            rows = np.repeat(np.arange(stop - start), exclude[1][start:stop])
            scores[rows, exclude[0][starts[start] : starts[stop]]] = -np.inf
        own = scores[np.arange(stop - start), positive[start:stop]]
        ahead = (scores >= own[:, np.newaxis]).sum(axis=1) - 1
        ranks[start:stop] = np.where(own == -np.inf, items - 1, ahead)
        if with_top:
            best[start:stop] = top_items(scores)
    return Ranking(ranks, best)


def top_items(scores: Floats) -> Ints:
    """int64 [n, 10] best columns of each row, the best first, ties by column; -1 where fewer than 10 remain."""
    count = min(TOP, scores.shape[1])
    kept = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
    values = np.take_along_axis(scores, kept, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    found = np.take_along_axis(kept, order, axis=1).astype(np.int64)
    found[np.take_along_axis(values, order, axis=1) == -np.inf] = -1
    return np.pad(found, ((0, 0), (0, TOP - count)), constant_values=-1)


def summary(ranks: Ints, top: Ints | None = None, items: int = 0) -> dict[str, float]:
    """recall@10, @50, @100, ndcg@10, mrr, clicks; given `top`, coverage@10: the catalogue's share in anybody's ten."""
    clicks = len(ranks)
    if not clicks:
        return {"clicks": 0}
    values = {f"recall@{k}": float((ranks < k).mean()) for k in CUTOFFS}
    values["ndcg@10"] = float(np.where(ranks < TOP, 1 / np.log2(ranks + 2.0), 0).mean())
    values["mrr"] = float((1 / (ranks + 1.0)).mean())
    if top is not None and items:
        values["coverage@10"] = len(np.unique(top[top >= 0])) / items
    values["clicks"] = clicks
    return values


def by_decile(ranks: Ints, positive: Ints, items: int) -> list[dict[str, float]]:
    """The summary for ten equal parts of the catalogue, from the most clicked items (item_index 0) to the least."""
    decile = positive * TOP // max(items, 1)
    return [summary(ranks[decile == part]) for part in range(TOP)]


def cold(ranks: Ints, positive: Ints, count: Ints) -> dict[str, float]:
    """The summary for clicks on items with fewer than 5 training clicks."""
    return summary(ranks[count[positive] < COLD_CLICKS])


def most_popular(count: Ints) -> Callable[[int, int], Floats]:
    """Scores of the baseline that gives everybody the most clicked items; equal counts in the order of item_index."""
    place = np.empty(len(count), np.float32)
    place[np.argsort(-count, kind="stable")] = -np.arange(len(count), dtype=np.float32)
    return lambda start, stop: np.broadcast_to(place, (stop - start, len(place)))


def dot_products(users: Floats, items: Floats) -> Callable[[int, int], Floats]:
    """Scores users[start:stop] @ items.T; users [n, dimension], items [m, dimension]."""
    transposed = np.ascontiguousarray(items.T)
    return lambda start, stop: users[start:stop] @ transposed


def blocks(clicks: int, items: int) -> Iterator[tuple[int, int]]:
    """(begin, end excluded) of blocks whose scores fit into BLOCK_CELLS."""
    size = max(1, BLOCK_CELLS // max(items, 1))
    for start in range(0, clicks, size):
        yield start, min(start + size, clicks)
