"""The folder that pipelines/mine.py writes, read back: which negatives a model says are hard, click by click.

    part-*.parquet   user, item, time, occurrence (which of identical clicks), negatives: a list of item ids
    _mining.json     what they were mined with; its being there says that the folder is whole

A click is told by who, what and when, never by a key of one dataset, so lists mined with one dataset serve another of
the same clicks, however it was split.
"""

import json
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines import given
from pipelines.config import Config
from schemas import storage
from schemas.errors import ConfigurationError, DataError, ProjectError

DESCRIPTION = "_mining.json"  # other readers of a folder of Parquet pass over names with _
COLUMNS = ("user", "item", "time", "occurrence", "negatives")


def check_there(config: Config) -> None:
    """Raises a ConfigurationError where a configured `mined` names no folder of mined negatives; needs no Spark."""
    path = given.Lists.of(config).mined
    if path is not None:
        described(path)


def described(path: str) -> dict[str, Any]:
    """What a folder's negatives were mined with.

    Raises:
      ConfigurationError: nothing was mined there.
    """
    option = f"negatives.proposal: mined.path {path!r}"
    try:
        return dict(json.loads(storage.folder(path).read(DESCRIPTION)))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{option} holds no {DESCRIPTION}; write one with pipelines/mine.py") from error
    except (OSError, ValueError, ProjectError) as error:
        raise ConfigurationError(f"{option} cannot be read: {error}; mine anew with pipelines/mine.py") from error


def rows(path: str, clicks: DataFrame, numbers: DataFrame, unit: str, keys: given.Keys) -> DataFrame:
    """Rows of kind MINED to stand beside the clicks: user, number, time, occurrence, listed.

    Rows of items that are not in the item table are left out, as their clicks are.

    Raises:
      DataError: they were mined from clicks of other types or of another unit of time.
    """
    unit_then = described(path).get("time_unit")
    if unit_then != unit:
        raise DataError(
            f"negatives.proposal: {path!r} was mined with times in {unit_then}, clicks.time is in {unit}; mine anew"
        )
    found = numbers.sparkSession.read.parquet(path)
    lacking = [name for name in COLUMNS if name not in found.columns]
    if lacking:
        raise DataError(f"negatives.proposal: {path!r} has no column {lacking[0]!r}; mine anew with pipelines/mine.py")
    for name, expected in (("user", clicks.schema["user"].dataType), ("item", numbers.schema["key"].dataType)):
        if found.schema[name].dataType != expected:
            raise DataError(
                f"negatives.proposal: in {path!r} {name} is {found.schema[name].dataType.simpleString()}, "
                f"in the clicks {expected.simpleString()}; mine anew from these clicks"
            )
    joined = found.join(numbers.withColumnRenamed("key", "item"), "item")
    columns = joined.select("user", "number", "time", "occurrence", F.col("negatives").alias("given_ids"))
    return given.numbered(columns, "given_ids", "listed", keys).withColumn("kind", F.lit(given.MINED))
