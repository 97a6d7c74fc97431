"""spark-submit broadcast_dict.py CLICKS ITEMS OUTPUT K: what people write once the join is too slow, whole.

The items are broadcast as a dictionary; each partition draws, looks attributes up, and writes with TensorFlow. Nothing
is shuffled but the clicks themselves, into training order. Writes what ours writes: the positive first, full
attributes, log_q, no click's own item among its negatives. No history, no manifest, no checks, and every worker holds
the whole catalogue.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from tests.benchmarks.coded_items import coded_items


def main(clicks_path: str, items_path: str, output: str, count: int) -> None:
    spark = SparkSession.builder.appName("broadcast dict").getOrCreate()
    clicks = spark.read.parquet(clicks_path)
    popularity = clicks.groupBy("item_id").agg(F.count("*").alias("clicks")).toPandas()
    coded = coded_items(spark.read.parquet(items_path).toPandas(), popularity, Path(output, "vocabulary"))
    table = coded.table
    attributes = dict(
        zip(
            table["item_id"].tolist(),
            zip(
                range(len(table)), table["code"].tolist(), table["category"].tolist(), table["brand"].tolist(),
                table["price"].tolist(), table["tags"].tolist(), strict=True,
            ),
            strict=True,
        )
    )  # fmt: skip
    shared = spark.sparkContext.broadcast((attributes, table["item_id"].to_numpy(), coded.probability))
    folder = Path(output, "train")
    folder.mkdir(parents=True)

    def write(rows: Iterable[Row]) -> None:
        import tensorflow as tf
        from pyspark import TaskContext

        def ints(values: Iterable[int]) -> Any:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

        def floats(values: Iterable[float]) -> Any:
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))

        attributes, ids, probability = shared.value
        context = TaskContext.get()
        part = context.partitionId() if context is not None else 0
        rng = np.random.default_rng(part)
        spare: list[int] = []  # `choice` costs as much for one draw as for a thousand

        def draw() -> int:
            if not spare:
                spare.extend(rng.choice(ids, 100_000, p=probability).tolist())
            return spare.pop()

        with tf.io.TFRecordWriter(str(folder / f"part-{part:05d}.tfrecord")) as writer:
            for row in rows:
                candidates = [row.item_id]
                while len(candidates) <= count:
                    drawn = draw()
                    if drawn != row.item_id:
                        candidates.append(drawn)
                found = [attributes[item] for item in candidates]
                q = probability[[item[0] for item in found]]
                log_q = np.log(count * q)
                log_q[1:] -= np.log1p(-q[0])
                feature = {
                    "user.user_id": ints([row.user_id]),
                    "item.item_id": ints([item[1] for item in found]),
                    "item.category": ints([item[2] for item in found]),
                    "item.brand": ints([item[3] for item in found]),
                    "item.price": floats([item[4] for item in found]),
                    "item.tags": ints([tag for item in found for tag in item[5]]),
                    "item.tags.lengths": ints([len(item[5]) for item in found]),
                    "item.log_q": floats(log_q.tolist()),
                    "click.time": ints([row.timestamp]),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    clicks.orderBy(F.rand(seed=1)).foreachPartition(write)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
