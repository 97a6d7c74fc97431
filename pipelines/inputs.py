"""Reads clicks, items and users with Spark, and sets aside what cannot be used, each row with its reason.

No input row vanishes: read = used + rejected, by reason. A missing column or a wrong type is an error before any work.
"""

from pathlib import PurePath

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines import period
from pipelines.input_config import Clicks, ImpressionTable, Input, Items, Users
from pipelines.session import ENGINE_ERRORS, cause
from schemas.errors import ConfigurationError, DataError
from schemas.features import FeatureSpec
from schemas.manifest import PER_SECOND

_ENDINGS = {".parquet": "parquet", ".orc": "orc", ".csv": "csv", ".json": "json", ".jsonl": "json"}
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_FRACTIONAL = (T.FloatType, T.DoubleType, T.DecimalType)
LARGEST_SECONDS = period.LARGEST["seconds"]  # milliseconds since 1973
LEAST_ARRIVAL = 10**8  # seconds, 1973: smaller numbers, such as 20261120, are no times of arrival


def read(spark: SparkSession, source: Input, name: str) -> DataFrame:
    """The rows of an input, filtered."""
    kind = source.format or _ENDINGS.get(PurePath(source.path).suffix, "parquet")
    try:
        if kind == "table":
            rows = spark.read.table(source.path)
        else:
            options = {"header": "true", "inferSchema": "true"} if kind == "csv" else {}
            rows = spark.read.format(kind).options(**options).load(source.path)
        rows = rows.where(source.filter) if source.filter else rows
        _ = rows.columns
    except AnalysisException as error:
        condition = error.getCondition() or ""
        if "PATH_NOT_FOUND" in condition or "TABLE_OR_VIEW_NOT_FOUND" in condition:
            raise DataError(
                f"{name}.path: nothing to read at {source.path!r}; check {name}.path and {name}.format"
            ) from error
        if "UNABLE_TO_INFER_SCHEMA" in condition:
            raise DataError(f"{name}.path: {source.path!r} holds no {kind} data; check {name}.format") from error
        raise ConfigurationError(f"{name}: {first_line(error)}; check {name}.path, format and filter") from error
    except ENGINE_ERRORS as error:
        raise DataError(f"{name}.path: {source.path!r} cannot be read as {kind}: {cause(error)}") from error
    return rows


def first_line(error: Exception) -> str:
    """What an engine's error says, without its plan and trace."""
    return str(error).strip().split("\n")[0][:300]


def column(rows: DataFrame, name: str, option: str, source: Input) -> Column:
    """A column by its name, or an error that names the option and the columns there are."""
    if name not in rows.columns:
        raise DataError(f"{option}: no column {name!r} in {source.path!r}; it has {', '.join(rows.columns)}")
    return F.col(f"`{name}`")


def identifier(rows: DataFrame, name: str, option: str, source: Input) -> Column:
    """A column that identifies something: whole numbers as long, text as it is."""
    found = column(rows, name, option, source)
    kind = rows.schema[name].dataType
    if isinstance(kind, _WHOLE) or (isinstance(kind, T.DecimalType) and kind.scale == 0 and kind.precision <= 18):
        return found.cast("long")
    if isinstance(kind, T.StringType):
        return found
    raise DataError(
        f"{option}: expected whole numbers or text in column {name!r} of {source.path!r}, got {kind.simpleString()}"
    )


def identifiers(rows: DataFrame, name: str, option: str, source: Input, key: T.DataType) -> Column:
    """A column of lists of item ids of the type `key`, which is that of items.key."""
    found = column(rows, name, option, source)
    kind = rows.schema[name].dataType
    expected = f"{option}: expected lists of item ids in column {name!r} of {source.path!r}, got {kind.simpleString()}"
    if not isinstance(kind, T.ArrayType):
        hint = "a delimited text is no list: give Parquet, ORC or JSON" if isinstance(kind, T.StringType) else None
        raise DataError(expected + (f"; {hint}" if hint else ""))
    if isinstance(kind.elementType, _WHOLE) and isinstance(key, T.LongType):
        return found.cast(T.ArrayType(T.LongType()))
    if kind.elementType != key:
        raise DataError(f"{expected}; items.key is {key.simpleString()}: give both the same type")
    return found


def checked_clicks(rows: DataFrame, source: Clicks, numbers: DataFrame) -> DataFrame:
    """Every click: user, key and number (of the item), time (long), weight; reason where it cannot be used; row (JSON).

    `rows` are those of `source`. `numbers` maps item keys to numbers; a click on an item without a row there cannot be
    used. Where clicks bring negatives, `given_ids` holds them; what they exclude, `exclude_ids`; `session` is a hash;
    `arrived` in microseconds.
    """
    user = identifier(rows, source.user, "clicks.user", source)
    item = identifier(rows, source.item, "clicks.item", source)
    time = _time(rows, source, "clicks")
    weight = _weight(rows, source)
    item_kind = rows.select(item.alias("key")).schema["key"].dataType
    if item_kind != numbers.schema["key"].dataType:
        raise DataError(
            f"clicks.item is {item_kind.simpleString()}, items.key is {numbers.schema['key'].dataType.simpleString()}: "
            "they cannot be joined; give both the same type"
        )
    lists = []
    if source.negatives is not None:
        lists = [identifiers(rows, source.negatives, "clicks.negatives", source, item_kind).alias("given_ids")]
    if source.exclude is not None:
        lists.append(identifiers(rows, source.exclude, "clicks.exclude", source, item_kind).alias("exclude_ids"))
    if source.session is not None:
        session = identifier(rows, source.session, "clicks.session", source)
        lists.append(F.when(session.isNotNull(), F.xxhash64(session)).alias("session"))
    if source.arrived is not None:
        lists.append(_arrived(rows, source.arrived, source).alias("arrived"))
    given = F.col("_time_given")
    canonical = rows.select(
        user.alias("user"),
        item.alias("key"),
        time.alias("time"),
        weight.cast("double").alias("weight"),
        column(rows, source.time, "clicks.time", source).isNotNull().alias("_time_given"),
        *lists,
        F.to_json(F.struct(*[F.col(f"`{name}`") for name in rows.columns])).alias("row"),
    )
    reason = (
        F.when(F.col("user").isNull(), "null_user")
        .when(F.col("key").isNull(), "null_item")
        .when(F.col("time").isNull() & ~given, "null_time")
        .when(F.col("time").isNull(), "bad_time")
        .when(
            F.col("weight").isNull()
            | F.isnan("weight")
            | (F.col("weight") < 0)
            | (F.col("weight").cast("float") == float("inf")),
            "bad_weight" if source.weight is None or source.weight.values is None else "unknown_event",
        )
        .when(F.lit(False) if source.arrived is None else F.col("arrived").isNull(), "bad_arrived")
        .when(F.col("number").isNull(), "unknown_item")
    )
    return (
        canonical.join(numbers, "key", "left")
        .withColumn("reason", reason)
        .withColumn("weight", F.col("weight").cast("float"))
    )


def _arrived(rows: DataFrame, name: str, source: Clicks) -> Column:
    """When each click arrived, a date as its first moment; null where that is no time."""
    time = moment(rows, name, "clicks.arrived", source, "clicks.time_unit")
    if not isinstance(rows.schema[name].dataType, _WHOLE):
        return time
    return F.when(F.abs(time) >= LEAST_ARRIVAL, period.in_microseconds(time))


def _weight(rows: DataFrame, source: Clicks) -> Column:
    """The weight of each click, null where its event has none."""
    if source.weight is None:
        return F.lit(1.0)
    name, values, default = source.weight.column, source.weight.values, source.weight.default
    found = column(rows, name, "clicks.weight", source)
    kind = rows.schema[name].dataType
    if values is None:
        if not isinstance(kind, (*_WHOLE, *_FRACTIONAL)):
            raise DataError(
                f"clicks.weight: expected numbers in column {name!r}, got {kind.simpleString()}; "
                "for events give {column, values: {purchase: 3, view: 1}}"
            )
        return found
    if not isinstance(kind, (*_WHOLE, T.StringType, T.BooleanType)):
        raise DataError(f"clicks.weight: expected events as text in column {name!r}, got {kind.simpleString()}")
    known = F.create_map(*[F.lit(part) for event, weight in values.items() for part in (event, float(weight))])
    return F.coalesce(F.try_element_at(known, found.cast("string")), F.lit(default).cast("double"))


def checked_impressions(rows: DataFrame, source: ImpressionTable, numbers: DataFrame) -> DataFrame:
    """Every impression: user, key and number of the item, time (long); reason where it cannot be used; row (JSON)."""
    item = identifier(rows, source.item, "impressions.item", source)
    item_kind = rows.select(item.alias("key")).schema["key"].dataType
    if item_kind != numbers.schema["key"].dataType:
        raise DataError(
            f"impressions.item is {item_kind.simpleString()}, items.key is "
            f"{numbers.schema['key'].dataType.simpleString()}: they cannot be joined; give both the same type"
        )
    canonical = rows.select(
        identifier(rows, source.user, "impressions.user", source).alias("user"),
        item.alias("key"),
        _time(rows, source, "impressions").alias("time"),
        column(rows, source.time, "impressions.time", source).isNotNull().alias("_time_given"),
        F.to_json(F.struct(*[F.col(f"`{name}`") for name in rows.columns])).alias("row"),
    )
    reason = (
        F.when(F.col("user").isNull(), "null_user")
        .when(F.col("key").isNull(), "null_item")
        .when(F.col("time").isNull() & ~F.col("_time_given"), "null_time")
        .when(F.col("time").isNull(), "bad_time")
        .when(F.col("number").isNull(), "unknown_item")
    )
    return canonical.join(numbers, "key", "left").withColumn("reason", reason)


def _time(rows: DataFrame, source: Clicks | ImpressionTable, name: str) -> Column:
    return moment(rows, source.time, f"{name}.time", source, f"{name}.time_unit", source.time_unit)


def moment(rows: DataFrame, name: str, option: str, source: Input, unit_option: str, unit: str = "auto") -> Column:
    """A column of times as long: whole numbers as they are, all others as microseconds; null where it is no time."""
    found = column(rows, name, option, source)
    kind = rows.schema[name].dataType
    if isinstance(kind, _WHOLE):
        return found.cast("long")
    if isinstance(kind, _FRACTIONAL):
        value, unit = found.cast("double"), "seconds" if unit == "auto" else unit
        # NaN compares above all numbers. A number of seconds that large is one of milliseconds.
        plausible = F.abs(value) < LARGEST_SECONDS * PER_SECOND[unit]
        return F.when(plausible, F.round(value * (PER_SECOND["microseconds"] // PER_SECOND[unit])).cast("long"))
    if unit != "auto":
        raise DataError(f"{unit_option}: is for numbers, column {name!r} is {kind.simpleString()}; leave it out")
    if isinstance(kind, T.TimestampType | T.TimestampNTZType | T.DateType):
        return F.unix_micros(found.cast("timestamp"))  # the session's time zone is UTC
    if isinstance(kind, T.StringType):
        return F.unix_micros(F.try_to_timestamp(found))
    raise DataError(f"{option}: expected numbers, timestamps or text in column {name!r}, got {kind.simpleString()}")


def time_is_counted(rows: DataFrame, source: Clicks | ImpressionTable) -> bool:
    """Whether times are whole numbers, kept as they came; all others become microseconds."""
    return isinstance(rows.schema[source.time].dataType, _WHOLE)


def time_unit(source: Clicks | ImpressionTable, counted: bool, earliest: int, latest: int, name: str = "clicks") -> str:
    """The unit of an input's times: as configured, or by their size (seconds are below 1e11 until the year 5138).

    Raises:
      DataError: times of different units in one column.
    """
    if not counted:
        return "microseconds"
    if source.time_unit != "auto":
        return source.time_unit
    units = {unit_by_size(value) for value in (earliest, latest) if value > 10**8}
    if len(units) > 1:
        raise DataError(
            f"{name}.time: values from {earliest} to {latest} look like {' and '.join(sorted(units))} in one column; "
            f"mend it, or set {name}.time_unit"
        )
    return units.pop() if units else "seconds"


def unit_by_size(value: int) -> str:
    """seconds, milliseconds or microseconds since 1970, by the size of the number."""
    return next((unit for unit, least in period.LARGEST.items() if abs(value) < least), "microseconds")


def entities(
    spark: SparkSession, source: Items | Users, name: str, features: dict[str, FeatureSpec], title: str | None = None
) -> DataFrame:
    """key, title and one column a feature, named after it, of the items or users."""
    rows = read(spark, source, name)
    chosen = [identifier(rows, source.key, f"{name}.key", source).alias("key")]
    side = name.removesuffix("s")
    for feature, spec in features.items():
        option = f"features.{side}.{feature}"
        chosen.append(column(rows, spec.column or feature, option, source).alias(feature))
    if title is not None:
        chosen.append(column(rows, title, f"{name}.title", source).cast("string").alias("title"))
    elif name == "items":
        chosen.append(F.lit("").alias("title"))
    return rows.select(*chosen, *(_limits(rows, source) if isinstance(source, Items) else ()))


def _limits(rows: DataFrame, source: Items) -> list[Column]:
    """available_from and available_to as far as they are configured, and `<name>_given`, whether each is no null.

    Whole numbers stay so, all others are timestamps.
    """
    chosen = []
    for limit, name in (("available_from", source.available_from), ("available_to", source.available_to)):
        if name is None:
            continue
        time = moment(rows, name, f"items.{limit}", source, "clicks.time_unit")
        whole = isinstance(rows.schema[name].dataType, _WHOLE)
        chosen.append((time if whole else F.timestamp_micros(time)).alias(limit))
        chosen.append(column(rows, name, f"items.{limit}", source).isNotNull().alias(f"{limit}_given"))
    return chosen
