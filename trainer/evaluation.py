"""All that is measured on held-out clicks, from vectors alone: the trainer's own, or those of the exported models."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import metrics
from trainer.dataset import Catalogue, HeldOut
from trainer.metrics import Floats, Ranking
from trainer.towers import TwoTowers


@dataclass(frozen=True)
class Assessment:
    """Metrics of one split beside the most-popular baseline. repeats: share of clicks on excluded items."""

    model: dict[str, float]
    most_popular: dict[str, float]
    cold: dict[str, float]
    warm: dict[str, float]
    deciles: list[dict[str, float]]
    most_popular_deciles: list[dict[str, float]]
    ranking: Ranking
    repeats: float


def user_vectors(model: TwoTowers, held_out: HeldOut) -> Floats:
    """float32 [n, dimension] of held-out clicks' users, as they were before the click."""
    parts = [model.user_tower(queries).numpy() for queries in held_out.queries]
    return _joined(parts)


def item_vectors(model: TwoTowers, catalogue: Catalogue) -> Floats:
    """float32 [items, dimension] in the order of item_index."""
    indices = [items.index.numpy() for items in catalogue.items]
    parts = [model.item_tower(items).numpy() for items in catalogue.items]
    vectors = _joined(parts)
    ordered = np.empty_like(vectors)
    ordered[np.concatenate(indices)] = vectors
    return ordered


def assess(users: Floats, items: Floats, held_out: HeldOut, catalogue: Catalogue, exclude_history: bool) -> Assessment:
    """Everything that is reported about a split; users [n, dimension], items [catalogue, dimension]."""
    size, gone = len(catalogue), catalogue.gone
    exclude = held_out.exclude if exclude_history else None
    positive = held_out.positive
    ranking = metrics.rank(metrics.dot_products(users, items, gone), positive, size, exclude)
    counts = catalogue.count if gone is None else np.where(gone, -1, catalogue.count)
    popular = metrics.rank_most_popular(counts, positive, exclude)
    place = catalogue.popularity[positive]
    return Assessment(
        model=metrics.summary(ranking.rank, ranking.top, size),
        most_popular=metrics.summary(popular.rank, popular.top, size),
        cold=metrics.cold(ranking.rank, positive, catalogue.count),
        warm=metrics.warm(ranking.rank, positive, catalogue.count),
        deciles=metrics.by_decile(ranking.rank, place, size),
        most_popular_deciles=metrics.by_decile(popular.rank, place, size),
        ranking=ranking,
        repeats=_repeats(held_out) if exclude_history else 0.0,
    )


def quick(
    users: Floats, items: Floats, held_out: HeldOut, exclude_history: bool, gone: npt.NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """The metrics that follow a run from epoch to epoch; `recall` is the mean of recall@10, @50 and @100."""
    exclude = held_out.exclude if exclude_history else None
    scores = metrics.dot_products(users, items, gone)
    values = metrics.summary(metrics.rank(scores, held_out.positive, len(items), exclude, with_top=False).rank)
    if len(held_out):
        values["recall"] = sum(values[name] for name in metrics.RECALLS) / len(metrics.RECALLS)
    return values


def _repeats(held_out: HeldOut) -> float:
    values, lengths = held_out.exclude
    click = np.repeat(np.arange(len(held_out)), lengths)
    return float((values == held_out.positive[click]).sum() / max(len(held_out), 1))


def _joined(parts: list[Any]) -> npt.NDArray[np.float32]:
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 1), np.float32)
