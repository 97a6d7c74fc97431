"""What a job takes in: an input's rows, marked where they cannot be used, counted by reason.

The job and its dry run take in clicks and users through here, so that the one announces what the other does. Each costs
a pass over its input to count the reasons; clicks do without where a later pass shows that every row could be used.
"""

from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from pipelines import given, inputs, listed, mined
from pipelines import users as user_side
from pipelines.catalogues import ClickCounts
from pipelines.config import Config
from pipelines.duration import in_unit
from pipelines.given import Keys, Lists
from pipelines.input_config import Clicks, ImpressionTable
from pipelines.period import Period
from pipelines.split import SPLITS, constant, constant_values, with_split
from schemas.errors import DataError
from schemas.manifest import PER_SECOND


@dataclass(frozen=True)
class Intake:
    """rows: a whole input, with a `reason` where a row cannot be used. reasons: how many, by reason."""

    rows: DataFrame
    read: int
    reasons: dict[str, int]

    @property
    def usable(self) -> DataFrame:
        return self.rows.where("reason is null")

    @property
    def rejected(self) -> DataFrame:
        return self.rows.where("reason is not null")


@dataclass(frozen=True)
class ImpressionIntake(Intake):
    """Impressions; unit: of their times."""

    unit: str

    def beside(self, unit: str) -> DataFrame:
        """Rows of kind SHOWN to stand beside clicks whose times are in `unit`: user, number, time.

        A time that is finer than the clicks' falls into the unit it lies in.
        """
        mine, theirs, time = PER_SECOND[self.unit], PER_SECOND[unit], F.col("time")
        if theirs > mine:
            time = time * (theirs // mine)
        elif theirs < mine:
            time = (time - F.pmod(time, F.lit(mine // theirs))) / (mine // theirs)
        rows = self.usable.select("user", "number", time.cast("long").alias("time"))
        return rows.withColumn("kind", F.lit(given.SHOWN))


@dataclass(frozen=True)
class Beside:
    """What lists of negatives come from. numbers: item keys by number; keys: the same, for executors."""

    lists: Lists
    numbers: DataFrame
    keys: Keys
    impressions: ImpressionIntake | None = None


@dataclass(frozen=True)
class ClickIntake(Intake):
    """Clicks that were counted; earliest and latest: times of the usable ones, None where there are none."""

    source: Clicks
    counted: bool
    earliest: int | None
    latest: int | None

    @property
    def time_unit(self) -> str:
        """The unit of `time`.

        Raises:
          DataError: no click can be used, or times of different units stand in one column.
        """
        if self.earliest is None or self.latest is None:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
            raise DataError(f"clicks: none of {self.read} rows can be used: {reasons}")
        return inputs.time_unit(self.source, self.counted, self.earliest, self.latest)


@dataclass(frozen=True)
class MarkedClicks:
    """Clicks with a `reason` where they cannot be used, not counted yet. given: as they were read."""

    rows: DataFrame
    given: DataFrame
    source: Clicks
    within: Period | None

    def all_usable(self, counts: ClickCounts) -> ClickIntake:
        """What `counted` finds where the usable ones, of which the counts are, are all there are; no pass is needed."""
        return self._intake(counts.rows, {}, counts.earliest, counts.latest)

    def counted(self) -> ClickIntake:
        """How many there are and can be used, by a pass over them.

        Raises:
          DataError: there is none.
        """
        found = self.rows.groupBy("reason").agg(
            F.count("*").alias("rows"), F.min("time").alias("first"), F.max("time").alias("last")
        )
        by_reason = {row.reason: row for row in found.collect()}
        read = sum(row.rows for row in by_reason.values())
        if not read:
            passing = " that pass clicks.filter" if self.source.filter else ""
            passing += " of the days that --date reads" if self.within is not None else ""
            raise DataError(f"clicks: {self.source.path!r} has no rows{passing}")
        reasons = {reason: row.rows for reason, row in by_reason.items() if reason is not None}
        times = by_reason.get(None, {"first": None, "last": None})
        return self._intake(read, reasons, times["first"], times["last"])

    def _intake(self, read: int, reasons: dict[str, int], earliest: int | None, latest: int | None) -> ClickIntake:
        counted = inputs.time_is_counted(self.given, self.source)
        return ClickIntake(self.rows, read, reasons, self.source, counted, earliest, latest)

    def split(self, config: Config, held: ExitStack, unit: str = "", beside: Beside | None = None) -> DataFrame:
        """The usable clicks with their split and key, sorted within users; kept until what holds them is left.

        unit: of their times, for a split by time and for what stands beside. beside: what gives lists of items; without
        it there are none.
        """
        lists, weighted = Lists() if beside is None else beside.lists, config.clicks.weight is not None
        ids = [listed.IDS, *(["given_ids"] if lists.column else [])]
        there = [name for name in ("session", *ids) if name in self.rows.columns]
        same, usable = constant(config), self.rows.where("reason is null")
        clicks, others = usable.select("user", "number", "time", "weight", *there), list[DataFrame]()
        clicks = clicks.drop(*same)
        if beside is not None:
            clicks = listed.numbered(clicks, beside.keys)
            if lists.column:
                clicks = given.numbered(clicks, "given_ids", "given_column", beside.keys)
            if beside.impressions is not None:
                others.append(beside.impressions.beside(unit))
            if lists.mined is not None:
                others.append(mined.rows(lists.mined, clicks, beside.numbers, unit, beside.keys))
        if others:
            rows = given.together(clicks, others)
            together = with_split(rows, config.split, unit, weighted, apart=("kind",))
            window = in_unit(lists.impressions[0], unit) if lists.impressions else 0
            kept = given.matched(together.drop("occurrence"), lists, window)
        else:
            kept = with_split(clicks, config.split, unit, weighted).drop("occurrence")
        kept = kept.drop(*same).persist(StorageLevel.MEMORY_AND_DISK)
        held.callback(kept.unpersist)
        return kept.withColumns(constant_values(same))


def has_lists(config: Config) -> bool:
    """Whether lists of items stand beside clicks: of negatives that the proposal draws from, or of what is excluded."""
    return bool(Lists.of(config).columns) or config.clicks.exclude is not None


def impressions(
    spark: SparkSession, source: ImpressionTable, numbers: DataFrame, clicks: DataFrame
) -> ImpressionIntake:
    """Every impression, checked; costs a pass over them to count what cannot be used.

    Raises:
      DataError: there is none, or a column is missing, of the wrong type or of another than the clicks'.
    """
    rows = inputs.read(spark, source, "impressions")
    checked = inputs.checked_impressions(rows, source, numbers)
    user, theirs = checked.schema["user"].dataType, clicks.schema["user"].dataType
    if user != theirs:
        raise DataError(
            f"impressions.user is {user.simpleString()}, clicks.user is {theirs.simpleString()}: they cannot be "
            "joined; give both the same type"
        )
    found = checked.groupBy("reason").agg(
        F.count("*").alias("rows"), F.min("time").alias("first"), F.max("time").alias("last")
    )
    by_reason = {row.reason: row for row in found.collect()}
    read = sum(row.rows for row in by_reason.values())
    reasons = {reason: row.rows for reason, row in by_reason.items() if reason is not None}
    if None not in by_reason:
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "it is empty"
        raise DataError(f"impressions: none of {read} rows of {source.path!r} can be used: {why}")
    counted, usable = inputs.time_is_counted(rows, source), by_reason[None]
    return ImpressionIntake(
        checked, read, reasons, inputs.time_unit(source, counted, usable["first"], usable["last"], "impressions")
    )


def clicks(spark: SparkSession, source: Clicks, numbers: DataFrame, within: Period | None = None) -> MarkedClicks:
    """Every click, checked; `numbers` maps item keys to numbers. within: the days that are read, None for all.

    Raises:
      DataError: a column is missing or of the wrong type.
    """
    rows = inputs.read(spark, source, "clicks")
    checked = inputs.checked_clicks(rows, source, numbers)
    if within is not None:
        counted = inputs.time_is_counted(rows, source)
        checked = within.kept(checked, source.time_unit if counted else "microseconds")
    return MarkedClicks(checked, rows, source, within)


def by_item(clicks: DataFrame) -> DataFrame:
    """number, clicks of each split by its name, rows, first and last time and hash: of the split clicks of each item.

    Held-out clicks of weight 0 have no record and are not counted in their split.
    """
    own = [(F.col("split") == n) & ((F.col("weight") > 0) | F.lit(n == 0)) for n in range(len(SPLITS))]
    counts = [F.count_if(condition).alias(name) for condition, name in zip(own, SPLITS, strict=True)]
    rows = [F.count("*").alias("rows"), F.min("time").alias("first"), F.max("time").alias("last")]
    return clicks.groupBy("number").agg(*counts, *rows, hashed(clicks).alias("hash"))


def hashed(rows: DataFrame) -> Column:
    """An aggregate: the sum of 32 bits a row, over all its columns but why it cannot be used; any order is the same."""
    columns = sorted(name for name in rows.columns if name not in ("row", "reason"))
    return F.sum(F.shiftrightunsigned(F.xxhash64(*columns), 32))


@dataclass(frozen=True)
class UserIntake(Intake):
    """Users; hash: of the usable ones, whatever their order."""

    hash: str = ""


def users(spark: SparkSession, config: Config, clicks: DataFrame) -> UserIntake:
    """Every user, checked: `key` and features; those of the clicks themselves where no users are configured.

    A configured table is persisted, as several steps read it; the caller lets go of it.
    """
    features = config.features.user
    if config.users is None:
        known = clicks.select(F.col("user").alias("key")).distinct()
        own = [F.col("key").alias(name) for name in features]
        return UserIntake(known.select("key", *own, F.lit(None).cast("string").alias("reason")), 0, {})
    found = inputs.entities(spark, config.users, "users", features)
    user_side.same_key_type(clicks, found)
    checked = user_side.checked_users(found, features, f"users ({config.users.path})")
    checked = checked.persist(StorageLevel.MEMORY_AND_DISK)
    found_by_reason = checked.groupBy("reason").agg(F.count("*").alias("rows"), hashed(checked).alias("hash"))
    by_reason = {row.reason: row for row in found_by_reason.collect()}
    reasons = {reason: row.rows for reason, row in by_reason.items() if reason is not None}
    hash_ = f"{by_reason[None]['hash']:x}" if None in by_reason else ""
    return UserIntake(checked, sum(row.rows for row in by_reason.values()), reasons, hash_)
