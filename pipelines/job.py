"""The whole story: clicks and items in, a dataset of training records out.

    clicks, items, users -> usable clicks + catalogue -> clicks with split -> clicks with history and negatives
        -> records -> shards -> manifest

Each step is a transform with a name; what it costs and why it is there is told where it lives. Shuffles: one by user
(histories), one of 8 bytes a click (block boundaries), one into shards (training order).
"""

import dataclasses
from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import (
    appending,
    blocks,
    catalogue,
    frequencies,
    given,
    inputs,
    intake,
    listed,
    mapped_files,
    negatives,
    parts,
    records,
    rejects,
    training_examples,
    users,
)
from pipelines.assembly import assembled, item_split, plan_for, stored_vocabularies
from pipelines.catalogue import Catalogue, CheckedItems
from pipelines.config import Config
from pipelines.given import Keys, Lists
from pipelines.intake import Beside, ClickIntake
from pipelines.plan import Plan
from pipelines.progress import Progress
from pipelines.publication import Publication
from pipelines.rejects import Used
from pipelines.split import SPLITS
from samplers import unique_tensorflow
from samplers.proposal import proposal
from samplers.unique import unique_pools
from samplers.unique_clicks import unique_clicks
from schemas.errors import DataError
from schemas.manifest import Dataset


def run(
    spark: SparkSession, config: Config, overwrite: bool, progress: Progress, epoch_from: int = 0
) -> Dataset:  # fmt: skip
    """Writes the dataset that a configuration describes; on any failure the output is as it was before.

    epoch_from: sets of negatives that are there already; those from this one on are appended.

    Raises:
      DataError: unusable input. OutputError: the output is taken. EnvironmentProblem: a disk that refuses.
    """
    # What is kept in memory is let go of however the run ends, or another run in the same session would read it again.
    held = Publication(config.output.path, overwrite, epoch_from > 0, config.output.abandoned_seconds)
    with held as publication, ExitStack() as kept:
        before = appending.checked(config, epoch_from) if epoch_from else None
        used = Used(config.limits.rejected_share)
        with progress.step("items", "reading items") as step:
            items = read_items(spark, config, publication, used)
            step.result = f"{items.table.num_rows:,} usable of {items.read:,}"
        with progress.step("clicks", "reading and splitting clicks") as step:
            clicks = read_clicks(spark, config, items, publication, used)
            kept.callback(clicks.unpersist)
            counts, used.hashes["clicks"] = count_clicks(clicks, items)
            clicks, used.given = given.counted(clicks, Lists.of(config))
            clicks, excluded_lists = listed.counted(clicks)
            used.given |= excluded_lists
            taken = training_examples.counted(clicks, config, int(counts[0].sum()))
            step.result = ", ".join(f"{name} {counts[split].sum():,}" for split, name in enumerate(SPLITS))
        with progress.step("catalogue", "encoding items") as step:
            items = items.in_unit(used.time_unit, config.clicks.time_unit == "auto")
            counted, item_vocabularies = catalogue.build(items, counts[0], config.features)
            used.hashes["availability"] = counted.limits
            counted, facts = with_frequencies(counted, clicks, config, used.time_unit)
            counted = with_proposal(counted, config)
            step.result = f"{int((counted.counts > 0).sum()):,} items clicked"
        with progress.step("users", "reading users, building vocabularies"):
            clicks, user_fields, user_vocabularies = with_user_features(spark, config, clicks, publication, used, kept)
        with progress.step("plan", "writing items, sharing the catalogue, placing blocks"):
            plan = plan_for(config, publication, counted, user_fields, user_vocabularies, used.time_unit, epoch_from)
            vocabularies = stored_vocabularies(publication, {**user_vocabularies, **item_vocabularies})
            stored_items, items_digest = item_split(plan, counted)
            if before is not None:
                appending.check_inputs(before, used, plan.record, items_digest, vocabularies)
            if plan.record.layout != "row":
                inside = taken.written(plan.record.layout)
                boundaries = blocks.store_boundaries(clicks, plan, inside, publication.work)
                plan = dataclasses.replace(plan, boundaries=boundaries)
        with progress.step("records", "drawing negatives, writing records") as step:
            written = write_records(clicks, plan)
            step.result = (
                f"{sum(written['records'].to_pylist()):,} records, {sum(written['bytes'].to_pylist()) / 1e6:.1f} MB"
            )
        with progress.step("publish", "publishing"):
            manifest = assembled(
                config, plan, counted, taken, written, used, stored_items, items_digest, vocabularies, publication
            )
            manifest = dataclasses.replace(
                manifest,
                proposal={**manifest.proposal, **facts},
                timings_seconds={**progress.seconds, "total": progress.total},
            )
            return publication.commit(manifest if before is None else appending.appended(before, manifest))


def read_items(spark: SparkSession, config: Config, publication: Publication, used: Used) -> CheckedItems:
    """The usable items; rejected ones are stored, and an error where there are too many."""
    rows = inputs.entities(spark, config.items, "items", config.features.item, config.items.title)
    checked = catalogue.checked_items(rows.toArrow(), config.features, f"items ({config.items.path})")
    reasons = Counter(checked.rejected["reason"].to_pylist())
    rejects.account(used, "items", checked.read, reasons, spark.createDataFrame(checked.rejected), publication)
    return checked


def read_clicks(
    spark: SparkSession, config: Config, items: CheckedItems, publication: Publication, used: Used
) -> DataFrame:
    """Usable clicks with their split and key, sorted within users and kept for the steps to come."""
    pq.write_table(items.numbers, publication.work / "numbers.parquet")
    taken = intake.clicks(spark, config.clicks, numbers_of(spark, items, publication))
    rejects.account(used, "clicks", taken.read, taken.reasons, taken.rejected, publication)
    if "unknown_item" in taken.reasons:
        used.unmatched_items = taken.rejected.where("reason = 'unknown_item'").select("key").distinct().count()
    used.time_unit = taken.time_unit
    return taken.split(config, beside(spark, config, items, taken, publication, used))


def numbers_of(spark: SparkSession, items: CheckedItems, publication: Publication) -> DataFrame:
    """key, number of the items, read by executors; the schema is told, as inferring it is a Spark job."""
    kind = "string" if pa.types.is_string(items.numbers.schema.field("key").type) else "long"
    return spark.read.schema(f"key {kind}, number int").parquet(str(publication.work / "numbers.parquet"))


def beside(
    spark: SparkSession, config: Config, items: CheckedItems, clicks: ClickIntake, publication: Publication, used: Used
) -> Beside | None:
    """What lists of items come from; None where the proposal draws from none and clicks exclude none."""
    lists, keys = Lists.of(config), publication.work / "keys.arrow"
    if not lists.columns and config.clicks.exclude is None:
        return None
    mapped_files.store(keys, items.numbers)
    numbers, shown = numbers_of(spark, items, publication), None
    if lists.impressions is not None and config.impressions is not None:
        shown = intake.impressions(spark, config.impressions, numbers, clicks.rows)
        rejects.account(used, "impressions", shown.read, shown.reasons, shown.rejected, publication)
    return Beside(lists, numbers, Keys(str(keys)), shown)


def count_clicks(clicks: DataFrame, items: CheckedItems) -> tuple[npt.NDArray[np.int64], str]:
    """([3, items by number] clicks of each split, a hash of all that stands in and beside the clicks).

    Held-out clicks of weight 0 have no record and are not counted.

    Raises:
      DataError: none is left to train on.
    """
    own = [(F.col("split") == n) & ((F.col("weight") > 0) | F.lit(n == 0)) for n in range(len(SPLITS))]
    counted = [F.count_if(condition).alias(name) for condition, name in zip(own, SPLITS, strict=True)]
    found = clicks.groupBy("number").agg(*counted, intake.hashed(clicks).alias("hash")).toArrow()
    counts = np.zeros((len(SPLITS), items.table.num_rows), np.int64)
    for split, name in enumerate(SPLITS):
        counts[split, found["number"].to_numpy()] = found[name].to_numpy()
    if not counts[0].any():
        raise DataError(
            f"split: no training click is left ({counts[1].sum()} for validation, {counts[2].sum()} for test); "
            "move split.validation_from and test_from to a later time"
        )
    return counts, f"{sum(found['hash'].to_pylist()):x}"


def with_frequencies(
    counted: Catalogue, clicks: DataFrame, config: Config, unit: str
) -> tuple[Catalogue, dict[str, Any]]:
    """(the catalogue with what proposals count, what the manifest's `proposal` says of it)."""
    found = frequencies.counted(clicks, config.frequencies, unit, len(counted))
    if found is None:
        return counted, {}
    return counted.with_frequencies(found.values), {"frequencies": found.to_json()}


def with_proposal(counted: Catalogue, config: Config) -> Catalogue:
    """The catalogue with the configured proposal over its training frequencies."""
    drawn = proposal(config.negatives.proposal.catalogue_wide, counted.frequencies, counted.counts)
    counted = counted.with_groups(parts.groups_of(config, counted, counted.frequencies))
    count, q = config.negatives.count, drawn.table.probabilities
    try:
        if not config.unique:
            return counted.with_proposal(drawn)
        if config.unique == "tensorflow":
            return counted.with_proposal(drawn, unique_tensorflow.expected(q, count))
        if config.negatives.per == "click":
            return counted.with_proposal(drawn, unique_clicks(drawn.mass, drawn.one, count))
        return counted.with_proposal(drawn, unique_pools(q, count))
    except ValueError as error:
        raise DataError(
            f"negatives: {error} without replacement; lower negatives.count, give uniform a share of the proposal, "
            "or set negatives.unique: false"
        ) from error


def with_user_features(
    spark: SparkSession, config: Config, clicks: DataFrame, publication: Publication, used: Used, kept: ExitStack
) -> tuple[DataFrame, tuple[Any, ...], dict[str, list[str]]]:
    """(clicks with one raw `feature_*` column a user feature, fields, vocabularies)."""
    features = config.features.user
    if config.users is None:  # a user is all that is known of them: no join
        if not features:
            return clicks, (), {}
        fields, vocabularies = users.resolved_fields(users.of_clicks(clicks, features), features)
        return clicks.withColumns({f"feature_{name}": F.col("user") for name in features}), fields, vocabularies
    taken = intake.users(spark, config, clicks)
    kept.callback(taken.rows.unpersist)
    rows = taken.usable.select("key", *features)
    used.hashes["users"] = taken.hash
    rejects.account(used, "users", taken.read, taken.reasons, taken.rejected, publication)
    used.unmatched_users = users.unmatched(clicks, rows)
    if not features:
        return clicks, (), {}
    fields, vocabularies = users.resolved_fields(users.with_training_clicks(rows, clicks), features)
    renamed = rows.select(F.col("key").alias("user"), *[F.col(name).alias(f"feature_{name}") for name in features])
    return clicks.join(renamed, "user", "left"), fields, vocabularies


def write_records(clicks: DataFrame, plan: Plan) -> pa.Table:
    """Writes all shards; one row each of `records.RESULT`. The driver sees nothing that grows with the clicks."""
    drawn = blocks.by_user(clicks).mapInArrow(
        lambda batches: negatives.with_negatives(batches, plan), negatives.row_schema(plan)
    )
    ordered = drawn.repartitionById(plan.parts, "part").sortWithinPartitions("place", "order", "position")
    return ordered.mapInArrow(lambda batches: records.written(batches, plan), records.RESULT).toArrow()
