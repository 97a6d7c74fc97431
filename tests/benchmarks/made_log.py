"""A log of clicks and a table of items of any size, made from a seed: what every job benchmark reads.

Items are 114 bytes of text and numbers on average: id, category, brand, price and five to ten tags. Clicks fall on them
by Zipf's law. Not pipelines.sources.synthetic, as nothing is to be learned here: no tastes, no truth, five million
items in seconds. A skewed log gives one user and one item a share of the clicks to themselves.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

START_SECONDS = 1_735_689_600
CATEGORIES, BRANDS, TAGS = 200, 5_000, 2_000
BLOCK = 1 << 20


@dataclass(frozen=True)
class Log:
    """heaviest_user: clicks of user 1 alone. popular_share: of all clicks, those on one item."""

    clicks: int
    items: int
    users: int
    heaviest_user: int = 0
    popular_share: float = 0.0
    content: int = 0
    seed: int = 7

    def write(self, folder: Path) -> Path:
        """The folder with clicks.parquet and items.parquet; nothing is done where they are there already."""
        stamp, wanted = folder / "made_of.json", json.dumps(asdict(self))
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(folder / "items.parquet", items(self, 0, 1).schema) as writer:
            for begin in range(0, self.items, BLOCK):
                writer.write_table(items(self, begin, min(begin + BLOCK, self.items)))
        with pq.ParquetWriter(folder / "clicks.parquet", clicks(self, 0, 1).schema) as writer:
            for begin in range(0, self.clicks, BLOCK):
                writer.write_table(clicks(self, begin, min(begin + BLOCK, self.clicks)), row_group_size=1 << 17)
        stamp.write_text(wanted, encoding="utf-8")
        return folder


def made(folder: Path, log: Log) -> Path:
    """A folder below this one with the log, written where it is not there."""
    name = f"log-{log.clicks}-{log.items}-{log.users}" + ("-skewed" if log.heaviest_user else "")
    return log.write(folder / name)


def items(log: Log, begin: int, end: int) -> pa.Table:
    """item_id, category, brand, price, tags (and content) of some of the items."""
    rng, count = np.random.default_rng([log.seed, 1, begin]), end - begin
    tags = rng.integers(5, 11, count)
    offsets = np.concatenate([[0], np.cumsum(tags)]).astype(np.int32)
    columns: dict[str, Any] = {
        "item_id": np.arange(begin + 1, end + 1),
        "category": named("category", rng.integers(CATEGORIES, size=count)),
        "brand": named("brand", rng.integers(BRANDS, size=count)),
        "price": np.round(rng.lognormal(3, 1, count), 2).astype(np.float32),
        "tags": pa.ListArray.from_arrays(offsets, named("tag", rng.integers(TAGS, size=int(tags.sum())))),
    }
    if log.content:
        vectors = pa.array(rng.standard_normal(count * log.content, np.float32))
        columns["content"] = pa.ListArray.from_arrays((np.arange(count + 1) * log.content).astype(np.int32), vectors)
    return pa.table(columns)


def clicks(log: Log, begin: int, end: int) -> pa.Table:
    """user_id, item_id, timestamp of some of the clicks, in order of time."""
    rng, count = np.random.default_rng([log.seed, 2, begin]), end - begin
    ids = np.random.default_rng([log.seed, 3]).permutation(log.items) + 1  # ids tell nothing of popularity
    # The inverse of Zipf's distribution function where it is continuous: P(rank <= x) = log(x + 1) / log(items + 1).
    rank = np.minimum(np.expm1(rng.random(count) * np.log(log.items + 1)).astype(np.int64), log.items - 1)
    rank = np.where(rng.random(count) < log.popular_share, 0, rank)
    users = rng.integers(2, log.users + 1, count) if log.users > 1 else np.ones(count, np.int64)
    users = np.where(rng.random(count) < log.heaviest_user / log.clicks, 1, users)
    time = START_SECONDS + (np.arange(begin, end) * 31_536_000 // log.clicks)
    return pa.table({"user_id": users, "item_id": ids[rank], "timestamp": time})


def named(kind: str, numbers: npt.NDArray[np.int64]) -> pa.Array:
    """Texts such as brand-17."""
    names = pa.array([f"{kind}-{number}" for number in range(int(numbers.max(initial=0)) + 1)])
    return names.take(pa.array(numbers))
