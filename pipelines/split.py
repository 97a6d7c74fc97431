"""Sorts each user's clicks, gives each its key, and says which are for training, validation and test.

One shuffle, by user, and one sort serve everything that follows: the occurrence number of identical clicks, the split,
and the histories. The click key comes from (user, item, time, occurrence), never from where a row was read.
"""

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from schemas.errors import ConfigurationError
from schemas.manifest import PER_SECOND

if TYPE_CHECKING:  # a task needs no pydantic
    from pipelines.config import Config, LeaveLastSplit, Moment, NoSplit, TimeSplit

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")
# Where no weight is configured, and where nothing is held out.
_SAME: dict[str, np.generic] = {"weight": np.float32(1), "split": np.int32(TRAIN)}


def constant(config: "Config") -> tuple[str, ...]:
    """Columns that say the same of every click: they are neither kept nor shown to tasks, which know it."""
    names = ("weight",) if config.clicks.weight is None else ()
    return (*names, "split") if config.split.kind == "none" else names


def constant_values(names: tuple[str, ...]) -> dict[str, Column]:
    """What such columns say, by name."""
    return {name: F.lit(_SAME[name]) for name in names}


def with_constant(clicks: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Clicks as a task was shown them, with these columns where they were left out."""
    for name in names:
        if name not in clicks.column_names:
            clicks = clicks.append_column(name, pa.array(np.full(len(clicks), _SAME[name])))
    return clicks


def with_split(
    clicks: DataFrame, split: "NoSplit | LeaveLastSplit | TimeSplit", unit: str, weighted: bool = False,
    apart: tuple[str, ...] = (),
) -> DataFrame:  # fmt: skip
    """Adds `occurrence`, `click_key` (long) and `split`, rows of a user together and in order.

    weighted: some clicks may have weight 0. Such a click is nobody's test or validation; it belongs to the split that
    its user has reached by then.
    apart: columns of rows that are no clicks but travel in the same shuffle: rows that differ there do not count each
    other, and an `occurrence` that a row brings stays.
    """
    grouped = clicks.repartition("user")
    # Identical clicks that differ in what they carry must not swap their places, so everything has a say in the order.
    carried = [
        name
        for name in ("weight", "given_column", "session", "exclude_numbers", "exclude_ids")
        if name in clicks.columns
    ]
    same = Window.partitionBy("user", *apart, "time", "number").orderBy("number", *carried)
    occurrence: Column = F.row_number().over(same)
    if "occurrence" in clicks.columns:
        occurrence = F.coalesce("occurrence", occurrence)
    # Identical clicks are told apart by their key, here and wherever clicks are sorted again, or a sort's whim decides.
    by_user = Window.partitionBy("user", *apart).orderBy("time", "number", "click_key")
    keyed = grouped.withColumn("occurrence", occurrence).withColumn(
        "click_key", F.xxhash64("user", "number", "time", "occurrence")
    )
    return keyed.withColumn("split", _role(split, unit, by_user, weighted, apart).cast("int"))


def _role(
    split: "NoSplit | LeaveLastSplit | TimeSplit",
    unit: str,
    by_user: WindowSpec,
    weighted: bool,
    apart: tuple[str, ...],
) -> Column:
    if split.kind == "leave_last" and weighted:
        whole = Window.partitionBy("user", *apart)
        examples = F.sum((F.col("weight") > 0).cast("int"))
        # From the front: Spark's frames that end with the partition cost the square of its rows.
        later = examples.over(whole) - examples.over(by_user.rowsBetween(Window.unboundedPreceding, Window.currentRow))
        enough = examples.over(whole) >= 3
        return F.when(enough & (later == 0), TEST).when(enough & (later == 1), VALIDATION).otherwise(TRAIN)
    if split.kind == "leave_last":

        def there(offset: int) -> Column:
            neighbour = F.lead(F.lit(1), offset) if offset > 0 else F.lag(F.lit(1), -offset)
            return neighbour.over(by_user).isNotNull()

        last, second_last = ~there(1) & there(-2), there(1) & ~there(2) & there(-1)
        return F.when(last, TEST).when(second_last, VALIDATION).otherwise(TRAIN)
    if split.kind == "time":
        test_from = moment(split.test_from, unit)
        validation_from = test_from if split.validation_from is None else moment(split.validation_from, unit)
        if validation_from > test_from:
            raise ConfigurationError("split: validation_from comes after test_from; it must be the earlier of the two")
        return (
            F.when(F.col("time") >= test_from, TEST).when(F.col("time") >= validation_from, VALIDATION).otherwise(TRAIN)
        )
    return F.lit(TRAIN)


def moment(value: "Moment", unit: str) -> int:
    """A configured moment in the clicks' unit; dates and times without a zone are UTC, numbers stay as they are."""
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, str):
        raise ConfigurationError(f"split: {value} is before the end of a day; give --date YYYY-MM-DD")
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return (
        round((value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))
        * PER_SECOND[unit]
        // 1_000_000
    )
