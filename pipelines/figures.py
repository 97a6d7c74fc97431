"""The plots of a dataset's report, from the statistics in its manifest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines import svg
from pipelines.svg import Series

Statistics = Mapping[str, Any]


def draws_by_rank(statistics: Statistics) -> str:
    """Declared and observed draws of an item over its popularity rank, log-log."""
    cells = statistics["draws_by_cell"]
    observed = [seen / items for seen, items in zip(cells["observed"], cells["items"], strict=True)]
    expected = [declared / items for declared, items in zip(cells["expected"], cells["items"], strict=True)]
    return svg.curves(
        ranks(cells),
        [
            Series("declared proposal (expected draws)", expected, "one", "line"),
            Series("observed draws", observed, "two", "dots"),
        ],
        "Draws of an item over its popularity rank, expected and observed",
        "popularity rank (1 = most clicked in training)",
        "draws of an item",
        log_x=True,
        log_y=True,
        words=svg.short,
    )


def deviations_by_rank(statistics: Statistics) -> str:
    """Observed minus expected draws in standard deviations over the popularity rank; chance keeps 19 of 20 within 2."""
    cells = statistics["draws_by_cell"]
    deviations = [
        (seen - declared) / math.sqrt(declared) if declared > 0 else math.nan
        for seen, declared in zip(cells["observed"], cells["expected"], strict=True)
    ]
    return svg.curves(
        ranks(cells),
        [Series("deviation", deviations, "two", "dots")],
        "Observed minus expected draws in standard deviations",
        "popularity rank",
        "standard deviations",
        log_x=True,
        words=lambda value: f"{value:.3g}",
        band=(-2.0, 2.0),
        height=190,
    )


def ranks(cells: Mapping[str, Sequence[float]]) -> list[float]:
    """Where each run of items stands among the ranks from 1: its geometric middle."""
    return [math.sqrt((rank + 1) * (rank + items)) for rank, items in zip(cells["rank"], cells["items"], strict=True)]


def deciles(statistics: Statistics) -> str:
    """Shares of positives and negatives by popularity decile."""
    sizes = statistics["decile_items"]
    series = [
        Series("positives", shares(statistics["positives_by_decile"]), "one"),
        Series("negatives", shares(statistics["negatives_by_decile"]), "two"),
    ]
    return svg.bars(
        [f"{number + 1} ({svg.short(size)})" for number, size in enumerate(sizes)],
        series,
        "Share of positives and of negatives by popularity decile",
        "popularity decile: a tenth of the training clicks each, 1 = most popular (items in it)",
        "share",
        words=lambda share: f"{share:.3g}%",
    )


def shares(values: Sequence[float]) -> list[float]:
    """Per cent of the sum."""
    total = sum(values)
    return [100 * value / total if total else 0.0 for value in values]


def history_lengths(statistics: Statistics, longest: int) -> str:
    """Training clicks by the length of their history."""
    found = statistics["history_lengths"]
    labels = history_labels(found["edges"], longest)
    return svg.bars(
        labels,
        [Series("clicks", found["clicks"][: len(labels)], "one")],
        "Training clicks by the length of their history",
        f"earlier clicks in the history (at most {longest:,})",
        "clicks, all sets",
        words=svg.short,
    )


def history_labels(edges: Sequence[int], longest: int) -> list[str]:
    """Names of the length classes that histories of at most `longest` can reach."""
    labels = []
    for low, high in zip(edges, [*edges[1:], longest + 1], strict=True):
        last = min(high - 1, longest)
        if low > longest:
            break
        labels.append(f"{low:,}" if last <= low else f"{low:,}–{last:,}")
    return labels
