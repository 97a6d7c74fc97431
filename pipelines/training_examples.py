"""Which training clicks become examples: not those of weight 0, and no more of a user than `examples.per_user`.

Equal examples a user keep a few heavy users from deciding what all others are shown (Covington et al. 2016, section
3.4). Which clicks of a user are taken is decided by a seeded hash of their keys, another choice in each set of
negatives, so that all sets together use most of the data, and the same for any number of partitions. Every click stays
in histories, exclusions, frequencies and vocabularies. A sequence keeps all its clicks, as they are the histories of
those behind them; one that is no example has weight 0 there.
Costs a sort of the clicks of a group of users a set, and one small aggregation by user for the counts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.plan import Plan
from samplers import rng
from schemas.errors import DataError

if TYPE_CHECKING:  # a task needs no pydantic
    from pipelines.config import Config

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """Training clicks, and how many of them are examples in each set of negatives.

    without_weight: clicks of weight 0. over_cap: clicks of a weight, but more than `examples.per_user` of their user.
    capped_users: users with such clicks.
    """

    clicks: int
    without_weight: int = 0
    over_cap: int = 0
    capped_users: int = 0

    @property
    def count(self) -> int:
        """Examples of each set of negatives."""
        return self.clicks - self.without_weight - self.over_cap

    def written(self, layout: str) -> int:
        """Training clicks that the records of one set of negatives hold: a sequence keeps all as histories."""
        return self.clicks if layout == "sequence" else self.count

    def to_json(self) -> dict[str, int]:
        """The manifest's `statistics.examples`."""
        return {
            "training_clicks": self.clicks, "without_weight": self.without_weight, "over_cap": self.over_cap,
            "capped_users": self.capped_users, "a_set": self.count,
        }  # fmt: skip


def counted(clicks: DataFrame, config: "Config", training_clicks: int) -> Examples:
    """How many of the clicks, with their split, become examples.

    Raises:
      DataError: none does.
    """
    cap = config.examples.per_user
    if config.clicks.weight is None and cap is None:
        return Examples(training_clicks)
    able = F.count_if(F.col("weight") > 0)
    by_user = clicks.where("split = 0").groupBy("user").agg(able.alias("able"))
    over = F.greatest(F.col("able") - F.lit(cap), F.lit(0)) if cap is not None else F.lit(0)
    row = by_user.agg(F.sum("able"), F.sum(over), F.count_if(over > 0)).collect()[0]
    examples = Examples(training_clicks, training_clicks - int(row[0]), int(row[1]), int(row[2]))
    if not examples.count:
        raise DataError(
            f"clicks.weight: all {training_clicks:,} training clicks have weight 0, none is left to train on; "
            "give clicks.weight.values for the events that count"
        )
    return examples


def chosen(first: Ints, able: Bools, click_key: Ints, plan: Plan, epoch: int) -> Bools:
    """[n] whether each click is an example in a set of negatives.

    Args:
      first: [n] the row of each click's user's first click; clicks are sorted by user.
      able: [n] training clicks of a weight above 0. click_key: [n].
    """
    return at_most(first, able, plan.examples_per_user, plan.example_keys(click_key, epoch))


def at_most(first: Ints, able: Bools, per_user: int, keys: rng.Keys) -> Bools:
    """[n] the clicks that are `able`, of each user those with the `per_user` lowest keys; all of them for 0."""
    if not per_user:
        return able
    rows = np.flatnonzero(able)
    by_chance = rows[np.lexsort((keys[rows], first[rows]))]
    user = first[by_chance]
    rank = np.arange(len(user)) - np.searchsorted(user, user)
    out = np.zeros(len(able), bool)
    out[by_chance[rank < per_user]] = True
    return out
