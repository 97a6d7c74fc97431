"""spark-submit naive_join.py CLICKS ITEMS OUTPUT K: what most people write first, whole.

Explode K negatives a click, join the items, collect each click's candidates, write with TensorFlow. Everything is
Spark's own but the draws, which take numpy's `choice` over whole batches, and the writer. Clicks are shuffled by
grouping on a hash. Writes what ours writes: the positive first, full attributes, log_q, no click's own item among its
negatives. No history, no manifest, no checks.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from tests.benchmarks.coded_items import coded_items

CANDIDATES = "click long, user_id long, time long, slot int, item_id long, log_q float"


def main(clicks_path: str, items_path: str, output: str, count: int) -> None:
    spark = SparkSession.builder.appName("naive join").getOrCreate()
    clicks = spark.read.parquet(clicks_path).withColumn("click", F.xxhash64(F.monotonically_increasing_id()))
    popularity = clicks.groupBy("item_id").agg(F.count("*").alias("clicks")).toPandas()
    coded = coded_items(spark.read.parquet(items_path).toPandas(), popularity, Path(output, "vocabulary"))
    items = spark.createDataFrame(coded.table)
    drawn = spark.sparkContext.broadcast((coded.table["item_id"].to_numpy(), coded.probability))

    def with_negatives(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        ids, probability = drawn.value
        row_of_id = pd.Index(ids)
        for batch in batches:
            rng = np.random.default_rng(batch["click"].iloc[0] & 0x7FFFFFFF)
            positive = row_of_id.get_indexer(batch["item_id"])
            negatives = rng.choice(len(ids), (len(batch), count), p=probability)
            while (own := negatives == positive[:, None]).any():
                negatives[own] = rng.choice(len(ids), int(own.sum()), p=probability)
            candidates = np.concatenate([positive[:, None], negatives], axis=1)
            log_q = np.log(count * np.maximum(probability[candidates], 1e-300))
            log_q[:, 1:] -= np.log1p(-probability[positive])[:, None]
            yield pd.DataFrame({
                "click": np.repeat(batch["click"].to_numpy(), count + 1),
                "user_id": np.repeat(batch["user_id"].to_numpy(), count + 1),
                "time": np.repeat(batch["timestamp"].to_numpy(), count + 1),
                "slot": np.tile(np.arange(count + 1, dtype=np.int32), len(batch)),
                "item_id": ids[candidates.reshape(-1)],
                "log_q": log_q.reshape(-1).astype(np.float32),
            })  # fmt: skip

    candidates = clicks.mapInPandas(with_negatives, CANDIDATES).join(items, "item_id")
    one = F.struct("slot", "code", "category", "brand", "price", "tags", "log_q")
    records = candidates.groupBy("click", "user_id", "time").agg(F.array_sort(F.collect_list(one)).alias("candidates"))
    folder = Path(output, "train")
    folder.mkdir(parents=True)

    def write(rows: Iterable[Row]) -> None:
        import tensorflow as tf

        def ints(values: Iterable[int]) -> Any:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

        def floats(values: Iterable[float]) -> Any:
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))

        from pyspark import TaskContext

        context = TaskContext.get()
        part = context.partitionId() if context is not None else 0
        with tf.io.TFRecordWriter(str(folder / f"part-{part:05d}.tfrecord")) as writer:
            for row in rows:
                found = row.candidates
                feature = {
                    "user.user_id": ints([row.user_id]),
                    "item.item_id": ints([item.code for item in found]),
                    "item.category": ints([item.category for item in found]),
                    "item.brand": ints([item.brand for item in found]),
                    "item.price": floats([item.price for item in found]),
                    "item.tags": ints([tag for item in found for tag in item.tags]),
                    "item.tags.lengths": ints([len(item.tags) for item in found]),
                    "item.log_q": floats([item.log_q for item in found]),
                    "click.time": ints([row.time]),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    records.foreachPartition(write)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
