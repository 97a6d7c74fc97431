"""Which items are hard negatives of a click: the options, and the task that ranks the catalogue for users' clicks.

No Spark in it: rows with vectors come in, rows with negatives go out. See `pipelines/ranks.py` for how.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from pipelines import encoding, history, nearest, ranks
from pipelines.grouping import whole_groups
from pipelines.history import Ranges
from samplers import rng
from schemas.configuration import Strict

Ints = npt.NDArray[np.int64]

ROWS = 1 << 15  # clicks read at a time, and the rest of the last one's user
LEFT_OUT_PAIRS = 1 << 22  # (click, item left out) that a step holds, 32 MiB
STEP_CLICKS = 2_048  # clicks of a step at most
SAMPLE = 1 << 32  # the random number of a click that decides whether it is ranked exactly as well


class Ann(Strict):
    """faiss' inverted file. cells: null is 4 times the square root of the items; probes: cells that a click looks into.

    recall_clicks: about so many clicks are ranked exactly as well, to tell what is missed.
    """

    cells: int | None = Field(None, ge=1)
    probes: int = Field(64, ge=1)
    recall_clicks: int = Field(1_000, ge=1)


class Mining(Strict):
    """Which items are hard negatives of a click. temperature: null draws uniformly from the ranks, else by
    softmax(score / temperature). exclude: positive where people buy the same thing again. ann_from: items.
    """

    ranks: tuple[int, int] = (101, 500)
    count: int = Field(50, ge=1, le=100_000)
    temperature: float | None = Field(None, gt=0)
    exclude: Literal["history", "positive"] = "history"
    seed: int = Field(42, ge=0, lt=1 << 63)
    ann_from: int = Field(1_000_000, ge=1)
    ann: Ann = Ann()

    @field_validator("ranks")
    @classmethod
    def _window(cls, ranks: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= ranks[0] <= ranks[1] <= 100_000:
            raise ValueError(f"ranks are [first, last] with 1 <= first <= last <= 100,000; got {list(ranks)}")
        return ranks


@dataclass(frozen=True)
class MiningTask:
    """What runs on the executors: rows of a user's clicks with vectors in, rows with negatives out.

    share: of clicks that are ranked exactly as well, chosen by their keys.
    """

    work: str
    options: Mining
    ties: str
    share: float

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        items = np.load(f"{self.work}/items.npy", mmap_mode="r", allow_pickle=False)
        keys = pq.read_table(f"{self.work}/keys.parquet")["key"].combine_chunks()
        for table in whole_groups(batches, "user", ROWS):
            yield from self.mined(table, items, keys)

    def mined(self, table: pa.Table, items: npt.NDArray[np.float32], keys: pa.Array) -> Iterator[pa.RecordBatch]:
        """Batches of the clicks of whole users."""
        (first, last), options = self.options.ranks, self.options
        positive = table["positive"].to_numpy().astype(np.int64)
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(positive), -1)
        click_key = table["click_key"].to_numpy()
        known = history.ranges(table["user"].combine_chunks(), table["time"].to_numpy(), self.ties)  # type: ignore[arg-type]
        if options.exclude == "positive":
            known = Ranges(known.end, known.end)
        lengths = known.lengths + LEFT_OUT_PAIRS // STEP_CLICKS
        for begin, end in history.runs(lengths, LEFT_OUT_PAIRS):
            rows = np.arange(begin, end)
            left_out = left_out_of(positive, Ranges(known.start[rows], known.end[rows]), rows)
            some, luck = vectors[begin:end], rng.keyed(options.seed, click_key[begin:end])
            recall = np.full(len(rows), np.nan)
            if self.share:
                index, scores = nearest.Nearest(f"{self.work}/items.faiss", options.ann.probes).ranked(
                    some, left_out, last
                )
                told = np.flatnonzero(rng.uniforms(luck, SAMPLE) < self.share)
                exact, _ = ranks.ranked(some[told], items, chosen(left_out, told), last)
                recall[told] = nearest.recall(index[told], exact)
            else:
                index, scores = ranks.ranked(some, items, left_out, last)
            taken, counts = ranks.sampled(index, scores, luck, first, options.count, options.temperature)
            columns = {name: table[name].combine_chunks().slice(begin, end - begin) for name in
                       ("user", "item", "time", "occurrence")}  # fmt: skip
            columns["negatives"] = encoding.list_array(keys.take(pa.array(taken)), counts)
            columns["recall"] = pa.array(recall, mask=np.isnan(recall))
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def left_out_of(positive: Ints, known: Ranges, rows: Ints) -> tuple[Ints, Ints]:
    """(items one click after the other, offsets) of what each click's ranking leaves out: its own and those before."""
    earlier, lengths = history.gathered(positive, known)
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    values = np.empty(offsets[-1], np.int64)
    own = offsets[1:] - 1
    values[own] = positive[rows]
    rest = np.ones(len(values), bool)
    rest[own] = False
    values[rest] = earlier
    return values, offsets


def chosen(lists: tuple[Ints, Ints], rows: Ints) -> tuple[Ints, Ints]:
    """The lists of some rows."""
    values, offsets = lists
    some, lengths = history.gathered(values, Ranges(offsets[rows], offsets[rows + 1]))
    return some, np.concatenate([[0], np.cumsum(lengths)])
