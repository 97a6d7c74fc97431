"""Nearest items with faiss, an extra (pip install '.[ann]'): exact for small catalogues, approximate for large ones.

    flat   every query meets every item: exact; items * dimension products a query
    ivf    k-means cuts the catalogue into cells, and a query looks into the `probes` cells nearest to it: about
           items * probes / cells products; what it misses is measured, not assumed

Both hold the vectors in memory, 4 bytes a number. Building ivf: k-means over at most 256 items a cell.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import EnvironmentProblem

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK_CELLS = 8 << 20  # scores held at a time: 32 MiB
SLACK = 1e-5  # float32 sums in another order differ by 1e-6 of the largest number


def faiss() -> Any:
    """The library.

    Raises:
      EnvironmentProblem: it is not installed.
    """
    try:
        import faiss as library
    except ImportError as error:
        raise EnvironmentProblem(f"faiss cannot be imported ({error}); pip install 'prebatch[ann]'") from error
    return library


@dataclass
class Nearest:
    """An index of items by dot product. kind: "flat" or "ivf"; cells: of ivf, 0 for flat."""

    index: Any
    kind: str
    cells: int = 0

    @classmethod
    def flat(cls, items: Floats) -> "Nearest":
        """Exact."""
        index = faiss().IndexFlatIP(items.shape[1])
        index.add(items)
        return cls(index, "flat")

    @classmethod
    def ivf(cls, items: Floats, cells: int | None = None, seed: int = 0) -> "Nearest":
        """Approximate; by default 4 times the square root of the items are its cells. Looks into one until `probes`."""
        library = faiss()
        count = min(cells or max(1, round(4 * math.sqrt(len(items)))), len(items))
        index = library.IndexIVFFlat(
            library.IndexFlatIP(items.shape[1]), items.shape[1], count, library.METRIC_INNER_PRODUCT
        )
        index.cp.seed, index.cp.min_points_per_centroid = seed & 0x7FFFFFFF, 1
        index.train(items)
        index.add(items)
        return cls(index, "ivf", count)

    @classmethod
    def read(cls, path: Path, kind: str, probes: int) -> "Nearest":
        """One that `write` left."""
        found = cls(faiss().read_index(str(path)), kind)
        if kind == "ivf":
            found.cells = found.index.nlist
            found.probes = probes
        return found

    def write(self, path: Path) -> None:
        faiss().write_index(self.index, str(path))

    @property
    def probes(self) -> int:
        """Cells that a query looks into; 0 for flat."""
        return int(self.index.nprobe) if self.kind == "ivf" else 0

    @probes.setter
    def probes(self, count: int) -> None:
        self.index.nprobe = count

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """(scores, item numbers) [n, k], the best first; -1 and -inf where there were no more."""
        scores, found = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.where(found >= 0, scores, -np.inf).astype(np.float32), found.astype(np.int64)

    def reach(self, target: float, queries: Floats, items: Floats, k: int) -> None:
        """Doubles `probes` until the recall of these queries is `target`; all cells if it must be."""
        least = thresholds(queries, items, k)
        while recall(self.search(queries, k)[1], queries, items, least, k) < target and self.probes < self.cells:
            self.probes = min(2 * self.probes, self.cells)


def thresholds(queries: Floats, items: Floats, k: int) -> Floats:
    """[n] the score of the k-th best item of each query, by every product: n * items of them."""
    parts = []
    step = max(1, BLOCK_CELLS // max(len(items), 1))
    for begin in range(0, len(queries), step):
        scores = queries[begin : begin + step] @ items.T
        parts.append(np.partition(scores, -k, axis=1)[:, -k])
    return np.concatenate(parts).astype(np.float32)


def recall(found: Ints, queries: Floats, items: Floats, least: Floats, k: int) -> float:
    """The share of the exact top k that was found, the mean over queries.

    An item counts if its own score, computed anew, is not below the k-th best: of items with equal scores any will do.
    """
    scores = np.einsum("nd,nkd->nk", queries, items[np.maximum(found, 0)])
    slack = SLACK * np.maximum(1, np.abs(least))
    good = (found >= 0) & (scores >= (least - slack)[:, None])
    return float(np.minimum(good.sum(axis=1), k).mean() / k)
