"""What a finished dataset says of itself: draws held against the proposal, popularity of negatives, history lengths.

Items are counted in cells (single items where there are few, else runs of the index of like probability), so that a
task's counts stay small however large the catalogue is.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samplers.exclusion import Exclusion
from samplers.proposal import Proposal
from samplers.unique_quotas import Quotas

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_CELLS = 4096
HISTORY_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Cells:
    """cell [items] of each item, probability [cells] under the proposal.

    edges: [cells + 1] where each begins among all items by falling training clicks; None where all items are at hand
    and in that order, which is that of item_index unless indices are inherited.
    """

    cell: Ints
    probability: Floats
    edges: Ints | None = None

    def __len__(self) -> int:
        return len(self.probability)

    @functools.cached_property
    def first(self) -> Ints:
        """[cells + 1] popularity rank where each begins, and how many items there are."""
        return np.searchsorted(self.cell, np.arange(len(self) + 1)) if self.edges is None else self.edges

    @classmethod
    def of(cls, probability: Floats, order: Ints | None = None) -> "Cells":
        """Cells of the probabilities [items] of what is drawn: at most MOST_CELLS.

        order: [items] item indices by falling training clicks, where they are in another one.
        """
        if order is not None:
            ranked = cls.of(probability[order])
            cell = np.empty_like(ranked.cell)
            cell[order] = ranked.cell
            return cls(cell, ranked.probability, ranked.first)
        if len(probability) <= MOST_CELLS:
            return cls(np.arange(len(probability)), probability)
        cell = np.minimum((np.cumsum(probability) * MOST_CELLS).astype(np.int64), MOST_CELLS - 1)
        _, cell = np.unique(cell, return_inverse=True)
        return cls(cell.astype(np.int16), np.bincount(cell, probability).astype(np.float64))

    def counts(self, items: Ints) -> Ints:
        """[cells] how many of these items lie in each."""
        return np.bincount(self.cell[items], minlength=len(self))


def excluded_draws(exclusion: Exclusion, draws: Floats, proposal: Proposal, cells: Cells) -> Floats:
    """[cells] the part of q * draws that falls on excluded items, summed over the clicks [n]; n log n in the clicks.

    Items with a limit of availability cost a search each, whoever clicks.
    """
    parts = [(spans.item, spans.totals(draws)) for spans in exclusion.spans]
    row, item = exclusion.singles
    parts.append((item, draws[row]))
    if exclusion.availability is not None and exclusion.time is not None:
        parts.append(exclusion.availability.totals(exclusion.time, draws))
    out = np.zeros(len(cells))
    for items, times in parts:
        out += np.bincount(cells.cell[items], proposal.mass[items] / proposal.one * times, len(cells))
    return out


def expected_of_different(
    exclusion: Exclusion, quotas: Quotas, times: Floats, proposal: Proposal, cells: Cells
) -> Floats:
    """[cells] how often their items are to be drawn: sums of min(1, c q) of clicks that draw so many `times` [n].

    quotas: [n], of all clicks.
    """
    draws = np.where(quotas.points > 0, np.exp(quotas.log_scale) * proposal.one, 0.0)
    expected = cells.probability * (draws * times).sum() - excluded_draws(exclusion, draws * times, proposal, cells)
    owner, item = quotas.owner, quotas.certain
    beyond = times[owner] * (1 - draws[owner] * (proposal.mass[item] / proposal.one))
    summed: Floats = expected + np.bincount(cells.cell[item], beyond, len(cells))
    return summed


def decile_edges(counts: Ints) -> Ints:
    """[11] edges of ten groups with a tenth of the training clicks each, over falling counts; the last also the
    unclicked.
    """
    total = np.cumsum(counts)
    edges = np.searchsorted(total, np.arange(1, 10) / 10 * total[-1], side="left") + 1
    return np.concatenate([[0], np.minimum(edges, len(counts)), [len(counts)]])


def by_decile(values: Floats | Ints, cells: Cells, edges: Ints) -> list[float]:
    """[10] values of cells summed by popularity decile; a cell that spans two counts where it begins."""
    decile = np.clip(np.searchsorted(edges, cells.first[:-1], side="right") - 1, 0, 9)
    return [float(value) for value in np.bincount(decile, values, 10)]


def history_counts(lengths: Ints) -> Ints:
    """[edges] clicks by the length of their history, each in the last class whose edge it reaches."""
    return np.bincount(np.searchsorted(HISTORY_EDGES, lengths, side="right") - 1, minlength=len(HISTORY_EDGES))


def history_report(counts: Mapping[str, Any] | Ints) -> dict[str, Any]:
    """The manifest's history length histogram."""
    return {"edges": list(HISTORY_EDGES), "clicks": [int(count) for count in np.asarray(counts)]}
