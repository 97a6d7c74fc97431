"""Which clicks a job for a day reads: those of its window of days, as far as they had arrived (see pipelines/days.py).

A filter in the pass that reads the clicks, and no shuffle. Where the unit of times is known it is a plain comparison,
which Parquet files can be skipped by; folders that a partition column names are skipped where `arrived` or the input's
own filter names that column.
"""

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.days import after, before, end_of
from schemas.manifest import PER_SECOND

if TYPE_CHECKING:
    from pipelines.config import Config

LARGEST = {"seconds": 10**11, "milliseconds": 10**14}  # the years 5138; numbers from there on are of a finer unit
MICROSECONDS = PER_SECOND["microseconds"]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Period:
    """Which clicks a day reads, in microseconds since 1970: time from `since` (None: any) and before `until`, arrived
    before `arrived_until` (None: whenever).
    """

    since: int | None
    until: int
    arrived_until: int | None = None

    @classmethod
    def of(cls, config: "Config") -> "Period | None":
        """What a configuration asks for; None for all clicks there are."""
        if config.date is None:
            return None
        end, clicks = end_of(config.date), config.clicks
        since = None if clicks.window is None else _micros(before(end, clicks.window))
        late = end if clicks.watermark is None else after(end, clicks.watermark)
        return cls(since, _micros(end), None if clicks.arrived is None else _micros(late))

    def kept(self, clicks: DataFrame, unit: str) -> DataFrame:
        """The clicks that are read: those of the days, and those without a time, which are rejected for that.

        clicks: with `time` in `unit` (auto: by the size of each), and `arrived` in microseconds where that is asked of.
        """
        there = F.col("time").isNull() | (~_reaches(unit, self.until) & self._since(unit))
        if self.arrived_until is None:
            return clicks.where(there)
        known = F.col("arrived").isNull() | (F.col("arrived") < self.arrived_until)
        return clicks.where(there & known).drop("arrived")

    def _since(self, unit: str) -> Column:
        return F.lit(True) if self.since is None else _reaches(unit, self.since)


def _reaches(unit: str, moment: int) -> Column:
    """Whether a click's time is at a moment or after it."""
    if unit == "auto":
        return in_microseconds(F.col("time")) >= moment
    # As it is stored, so that files can be skipped; rounded up.
    return F.col("time") >= -(-moment * PER_SECOND[unit] // MICROSECONDS)


def in_microseconds(time: Column) -> Column:
    """Whole numbers, each taken as seconds, milliseconds or microseconds since 1970 by its size."""
    seconds, milliseconds = (F.abs(time) < LARGEST[unit] for unit in ("seconds", "milliseconds"))
    return F.when(seconds, time * 1_000_000).when(milliseconds, time * 1_000).otherwise(time)


def _micros(moment: dt.datetime) -> int:
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
