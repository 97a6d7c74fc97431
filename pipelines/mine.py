"""python -m pipelines.mine --vectors DIR --model DIR --output DIR: hard negatives by a trained model.

    python -m pipelines.queries --data out/mine --output out/queries
    python -m trainer embed-clicks --model models/mine --data out/mine --queries out/queries --output out/vectors
    python -m pipelines.mine --model models/mine --vectors out/vectors --output out/mined

Each training click's user vector ranks the catalogue of item_embeddings.parquet; what the user had before and the
click's own item are left out; `count` of the items at `ranks` are drawn (pipelines/ranks.py). Prebatch reads the folder
with {mined: {path: out/mined}, share: 0.1}. Spark: one shuffle of the vectors by user, as what a user had before is
known from their other clicks; then clicks * items products, exact, or by faiss from `ann_from` items on.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import nearest
from pipelines.commands import reporting_errors
from pipelines.mining import Mining, MiningTask
from pipelines.staging import check_free, staged
from schemas import configuration
from schemas.errors import ConfigurationError
from schemas.files import file_sha256, local_path, write_atomically

ENOUGH = 0.95  # recall below which a person is told what to do
VECTORS, EMBEDDINGS = "_vectors.json", "item_embeddings.parquet"


@dataclass(frozen=True)
class Model:
    """A trained model's items. keys: ids as text; vectors: [items, d]; digest: of the file."""

    keys: pa.Array
    vectors: npt.NDArray[np.float32]
    digest: str


def read_model(folder: Path) -> Model:
    """The items of a model's folder.

    Raises:
      ConfigurationError: it holds none.
    """
    path = folder / EMBEDDINGS
    try:
        table = pq.read_table(path, columns=["item_id", "embedding"])
    except (OSError, pa.ArrowInvalid) as error:
        why = str(error).splitlines()[0]
        raise ConfigurationError(
            f"--model {folder}: expected {EMBEDDINGS} ({why}); write a model with python -m trainer train"
        ) from error
    vectors = table["embedding"].combine_chunks()
    matrix = vectors.flatten().to_numpy().reshape(table.num_rows, -1).astype(np.float32)
    return Model(table["item_id"].combine_chunks(), matrix, file_sha256(path))


def read_description(folder: Path, model: Model, where: Path) -> dict[str, Any]:
    """What is told of the vectors in a folder.

    Raises:
      ConfigurationError: there are none, or another model made them.
    """
    try:
        found = dict(json.loads((folder / VECTORS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--vectors {folder}: expected {VECTORS} ({error}); write it with python -m trainer embed-clicks"
        ) from error
    if found.get("model") != model.digest:
        raise ConfigurationError(
            f"--vectors {folder}: were made by another model than {where}, so they cannot rank its items; "
            "run python -m trainer embed-clicks with this --model"
        )
    return found


@click.command()
@click.option("--vectors", required=True, type=click.Path(path_type=Path), help="What `trainer embed-clicks` wrote.")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="The model's folder.")
@click.option("--output", required=True, help="Folder for the mined negatives.")
@click.option("--config", "path", type=click.Path(path_type=Path), help="YAML; without it the defaults.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key, as ranks=[51,200].")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(
    vectors: Path, model: Path, output: str, path: Path | None, overrides: tuple[str, ...], overwrite: bool, debug: bool
) -> None:
    """Mine hard negatives for every click whose vector is there."""
    with reporting_errors(debug):
        options = configuration.load(Mining, path, overrides)
        items = read_model(model)
        described = read_description(vectors, items, model)
        check_free(output, overwrite)
        if len(items.keys) >= options.ann_from:
            nearest.faiss()
        from pipelines.progress import Progress
        from pipelines.session import spark_session

        progress = Progress()
        with progress.step("spark", "starting Spark"):
            spark = spark_session(f"mine {output}")
        progress.watch(spark)
        with progress.step("mine", f"ranking {len(items.keys):,} items for each click") as step:
            report = run(spark, vectors, described, items, options, output, overwrite)
            step.result = f"{report['clicks']:,} clicks, {report['mean_negatives']:.1f} negatives each"
        if "recall" in report:
            advice = "" if report["recall"] >= ENOUGH else "; ranks are those of what was found: raise ann.probes"
            click.echo(f"recall of the approximate ranking: {report['recall']:.3f}{advice}")
        click.echo(f"mined: {local_path(output)}")


def run(
    spark: Any, vectors: Path, described: dict[str, Any], items: Model, options: Mining, output: str,
    overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Writes the mined negatives and what they were mined with; returns the latter. See pipelines/mined.py."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    from pipelines import mined

    with staged(output, overwrite) as folder:
        work = folder / "_work"
        work.mkdir()
        np.save(work / "items.npy", items.vectors, allow_pickle=False)
        approximate = len(items.keys) >= options.ann_from
        cells = None
        if approximate:
            cells = nearest.build(items.vectors, work / "items.faiss", options.ann.cells, options.seed)
        rows = spark.read.parquet(str(vectors))
        item = rows.schema["item"].dataType
        keys = items.keys.cast(pa.int64()) if isinstance(item, T.LongType) else items.keys
        pq.write_table(pa.table({"key": keys}), work / "keys.parquet")
        share = options.ann.recall_clicks / max(described["clicks"], 1) if approximate else 0.0
        task = MiningTask(str(work), options, described["ties"], share)
        kinds = [rows.schema[name] for name in ("user", "item", "time", "occurrence")]
        kinds += [T.StructField("negatives", T.ArrayType(item)), T.StructField("recall", T.DoubleType())]
        ordered = rows.repartition("user").sortWithinPartitions("user", "time", "number", "click_key")
        found = ordered.mapInArrow(task, T.StructType(kinds))
        found.write.mode("append").parquet(str(folder))
        told = spark.read.parquet(str(folder)).agg(
            F.count("*").alias("clicks"), F.sum(F.size("negatives")).alias("negatives"),
            F.count_if(F.size("negatives") == 0).alias("without"), F.avg("recall").alias("recall"),
            F.count("recall").alias("recall_clicks"),
        ).collect()[0]  # fmt: skip
        for path in work.iterdir():
            path.unlink()
        work.rmdir()
        report = {
            **options.model_dump(mode="json", exclude={"ann", "ann_from"}),
            "model": items.digest, "dataset": described["dataset"], "time_unit": described["time_unit"],
            "items": len(items.keys), "clicks": told.clicks, "clicks_without_negatives": told.without,
            "mean_negatives": round((told.negatives or 0) / max(told.clicks, 1), 3), "ranking": "exact",
        }  # fmt: skip
        if approximate:
            report |= {
                "ranking": "ann", "cells": cells, "probes": options.ann.probes, "recall": told.recall,
                "recall_clicks": told.recall_clicks,
            }  # fmt: skip
        write_atomically(folder / mined.DESCRIPTION, json.dumps(report, indent=1).encode())
    return report


if __name__ == "__main__":
    sys.exit(main())
