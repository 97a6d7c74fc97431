"""Users with so many clicks that one task would draw for them long after all others have ended: several share them.

Such a user's clicks stay in one partition, sorted, as a history is one user's. But what costs time is to draw, so as
many tasks as are worth it read all of the user's kept clicks, and each draws for a share of them. Who is that heavy is
told by one click in 64, which is a pass over keys and users of what is kept; no record depends on the answer.
Where a catalogue is partitioned nothing is shared: there the clicks that tasks draw for are joined, and not kept.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

Ints = npt.NDArray[np.int64]

SHARE = 1 << 18  # clicks that a task draws for before another one is worth reading them once more
MOST = 64  # tasks a user, as each is a piece of Spark's plan
SAMPLE = 64


def in_share(
    number: int, of: Mapping[Any, int], first: Ints, user: pa.Array, click_key: Ints
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """[n] whether each click is in this share of its user's: by chance, as later ones, before which more is known, take
    longer.

    Args:
      of: how many shares each user has. first: [n] the row of the first click of each click's user; clicks are sorted
        by user.
    """
    starts, owner = np.unique(first, return_inverse=True)
    shares = np.array([of[user[int(start)].as_py()] for start in starts], np.uint64)
    mine: npt.NDArray[np.bool_] = click_key.view(np.uint64) % shares[owner] == number
    return mine


def parted(clicks: DataFrame, of: Mapping[Any, int]) -> Iterator[tuple[DataFrame, int | None]]:
    """(clicks, the number of the share of them that is drawn for, None for all): those of all but heavy users, then
    those of heavy users share by share.
    """
    if not of:
        yield clicks, None
        return
    yield clicks.where(~F.col("user").isin(*of)), None
    for number in range(max(of.values())):
        yield clicks.where(F.col("user").isin(*[user for user in of if of[user] > number])), number


def found(clicks: DataFrame, count: int) -> dict[Any, int]:
    """Into how many shares the clicks of each heavy user are cut, among so many kept clicks."""
    if count < 2 * SHARE:
        return {}
    sample = clicks.where(F.col("click_key").bitwiseAND(F.lit(SAMPLE - 1)) == 0)
    heavy = sample.groupBy("user").count().where(F.col("count") * SAMPLE >= 2 * SHARE)
    return {row["user"]: min(MOST, math.ceil(row["count"] * SAMPLE / SHARE)) for row in heavy.collect()}
