"""python -m pipelines.queries --data URI --output DIR: what a user tower would be asked at each training click.

A train record does not say whose it is, and its history is cut; so the clicks are read again as the dataset's own job
file says, and each training click becomes a row of Parquet: who, what, when and which of identical ones, the user's raw
features, and the items clicked before it, by item_index. `python -m trainer embed-clicks` makes vectors of them, and
pipelines/mine.py negatives. Spark; two passes over the clicks, one shuffle by user; a history costs 4 bytes an item.
"""

import json
import sys
from collections.abc import Iterable, Iterator

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines import catalogue, encoding, history, inputs, intake, mapped_files, readable
from pipelines.blocks import USER_CLICKS, by_user
from pipelines.catalogue import CheckedItems
from pipelines.commands import reporting_errors
from pipelines.config import Config
from pipelines.grouping import whole_users
from pipelines.history import Ranges
from pipelines.period import Period
from pipelines.progress import Progress
from pipelines.session import spark_session
from pipelines.split import TRAIN, with_split
from pipelines.staging import check_free, staged
from schemas import configuration
from schemas.errors import DataError
from schemas.features import Buckets, FeatureSpec, Vocabulary
from schemas.files import write_atomically
from schemas.manifest import Dataset

DESCRIPTION = "_queries.json"  # other readers of a folder of Parquet pass over names with _
IDENTITY = ("user", "item", "time", "occurrence", "number", "click_key")


@click.command()
@click.option("--data", required=True, metavar="URI", help="Folder of a finished dataset.")
@click.option("--output", required=True, help="Folder for the queries.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(data: str, output: str, overwrite: bool, debug: bool) -> None:
    """Write what a user tower would be asked at each training click of a dataset."""
    with reporting_errors(debug):
        dataset = Dataset.open(data)
        check_free(output, overwrite)
        progress = Progress()
        with progress.step("spark", "starting Spark"):
            spark = spark_session(f"queries {output}")
        progress.watch(spark)
        with progress.step("queries", "reading clicks, writing queries") as step:
            step.result = f"{run(spark, dataset, output, overwrite):,} clicks"
        click.echo(f"queries: {output}")


def run(spark: SparkSession, dataset: Dataset, output: str, overwrite: bool = False) -> int:
    """Writes the queries of a dataset's training clicks; returns how many there are.

    Raises:
      DataError: the inputs are no longer those that the dataset was made of.
    """
    config = configuration.validate(Config, dataset.manifest.config, dataset.uri)
    with staged(output, overwrite) as folder:
        rows = inputs.entities(spark, config.items, "items", config.features.item, config.items.title)
        items = catalogue.checked_items(rows.toArrow(), config.features, f"items ({config.items.path})")
        (folder / "_work").mkdir()
        index = folder / "_work" / "index.arrow"
        mapped_files.store(index, pa.table({"index": index_of_number(dataset, items)}))
        numbers = spark.createDataFrame(items.numbers)
        taken = intake.clicks(spark, config.clicks, numbers, Period.of(config)).counted()
        usable = taken.usable.select("user", F.col("key").alias("item"), "number", "time", "weight")
        clicks = with_split(usable, config.split, taken.time_unit, config.clicks.weight is not None)
        found = queries(_with_features(spark, config, clicks), config, str(index))
        found.write.mode("append").parquet(str(folder))
        count: int = sum(pq.read_metadata(part).num_rows for part in folder.glob("*.parquet"))
        train = dataset.manifest.splits["train"]
        if count < train.clicks // train.epochs:
            raise DataError(
                f"clicks.path: {config.clicks.path!r} holds {count:,} training clicks, {dataset.uri} was made of "
                f"{train.clicks // train.epochs:,} or more; write the dataset anew"
            )
        index.unlink()
        index.parent.rmdir()
        description = {
            "clicks": count, "time_unit": taken.time_unit, "ties": config.history.ties,
            "dataset": dataset.manifest.content_digest,
        }  # fmt: skip
        write_atomically(folder / DESCRIPTION, json.dumps(description, indent=1).encode())
    return count


def index_of_number(dataset: Dataset, items: CheckedItems) -> pa.Array:
    """int32 item_index by item number.

    Raises:
      DataError: the item table has items that the dataset does not know.
    """
    known = readable.items(dataset, set(range(dataset.manifest.items.records)))
    by_index = pa.array([known[i].key for i in range(len(known))], pa.large_string())
    keys = encoding.texts(items.table["key"].combine_chunks())
    index = pc.index_in(keys, value_set=by_index)
    if index.null_count:
        first = keys.filter(pc.is_null(index))[0].as_py()
        raise DataError(
            f"items: {index.null_count:,} items are not in {dataset.uri}, such as {first!r}: the table has changed "
            "since; write the dataset anew"
        )
    return index


def _with_features(spark: SparkSession, config: Config, clicks: DataFrame) -> DataFrame:
    """Clicks with one raw column `user_<feature>` a user feature."""
    features = config.features.user
    if not features:
        return clicks
    rows = intake.users(spark, config, clicks).usable.select("key", *features)
    renamed = rows.select(F.col("key").alias("user"), *[F.col(name).alias(f"user_{name}") for name in features])
    return clicks.join(renamed, "user", "left")


def queries(clicks: DataFrame, config: Config, index: str) -> DataFrame:
    """A row a training click: IDENTITY, positive, history, oldest first, and `user_<feature>` as the tower takes it."""
    features, ties, length = config.features.user, config.history.ties, config.history.length
    kinds = {name: clicks.schema[name].dataType for name in IDENTITY}
    kinds |= {"positive": T.IntegerType(), "history": T.ArrayType(T.IntegerType())}
    kinds |= {f"user_{name}": _kind(spec) for name, spec in features.items()}

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        by_number = mapped_files.mapped(index)["index"].to_numpy()
        for table in whole_users(batches, USER_CLICKS):
            item = by_number[table["number"].to_numpy()]
            known = history.ranges(table["user"].chunk(0), table["time"].to_numpy(), ties).latest(length)
            rows = np.flatnonzero(table["split"].to_numpy() == TRAIN)
            taken = table.take(pa.array(rows)).combine_chunks()
            columns = {name: taken[name] for name in IDENTITY}
            columns["positive"] = pa.array(item[rows], pa.int32())
            columns["history"] = encoding.list_array(
                *history.gathered(item, Ranges(known.start[rows], known.end[rows]))
            )
            for name, spec in features.items():
                columns[f"user_{name}"] = raw(name, spec, taken[f"user_{name}"].combine_chunks())
            yield from pa.table(columns).to_batches()

    schema = T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])
    return by_user(clicks).mapInArrow(task, schema)


def _kind(spec: FeatureSpec) -> T.DataType:
    if isinstance(spec, Vocabulary):
        return T.StringType() if spec.shape == "scalar" else T.ArrayType(T.StringType())
    if isinstance(spec, Buckets):
        return T.DoubleType()
    return T.FloatType() if spec.shape == "scalar" else T.ArrayType(T.FloatType())


def raw(name: str, spec: FeatureSpec, column: pa.Array) -> pa.Array:
    """A feature as the exported user tower takes it: text (null: missing), float64 (NaN: missing), or float32."""
    if isinstance(spec, Vocabulary):
        if spec.shape == "scalar":
            return encoding.texts(column).cast(pa.string())
        values, owner = encoding.flat_lists(column)
        return encoding.list_array(encoding.texts(values).cast(pa.string()), np.bincount(owner, minlength=len(column)))
    if isinstance(spec, Buckets):
        return pa.array(encoding.numbers(column), pa.float64())
    field = encoding.resolved(name, spec, 0, None)
    dense = encoding.dense(field, column)
    return (
        pa.array(dense[:, 0])
        if spec.shape == "scalar"
        else encoding.list_array(dense.reshape(-1), np.full(len(dense), field.width))
    )


if __name__ == "__main__":
    sys.exit(main())
