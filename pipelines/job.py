"""The whole story: clicks and items in, a dataset of training records out.

    clicks, items, users -> usable clicks + catalogue -> clicks with split -> clicks with history and negatives
        -> records -> shards -> manifest

Each step is a transform with a name; what it costs and why it is there is told where it lives. Shuffles: one by user
(histories), one of 8 bytes a click (block boundaries), one into shards (training order).
"""

import dataclasses
import functools
from contextlib import ExitStack
from itertools import starmap
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import (
    appending,
    batches,
    blocks,
    bundles,
    engine,
    given,
    heavy_users,
    inputs,
    intake,
    kind,
    listed,
    negatives,
    outputs,
    records,
    rejects,
    training_examples,
    users,
)
from pipelines.assembly import assembled, plan_for, stored_vocabularies
from pipelines.catalogues import ClickCounts, Items
from pipelines.config import Config
from pipelines.given import Keys, Lists
from pipelines.inheritance import Inherited
from pipelines.intake import Beside, ClickIntake, MarkedClicks
from pipelines.item_source import source_of
from pipelines.mapped import MappedItems
from pipelines.partitioned import PartitionedItems
from pipelines.period import Period
from pipelines.plan import Plan
from pipelines.progress import Progress
from pipelines.publication import Publication
from pipelines.rejects import Used
from pipelines.split import SPLITS
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
    outputs.check_work(spark, config.output)
    held = outputs.publication(config.output, overwrite, epoch_from > 0)
    with held as publication, ExitStack() as kept:
        before = appending.checked(config, epoch_from) if epoch_from else None
        used = Used(config.limits.rejected_share)
        inherited = inherit(config, progress)
        with progress.step("items", "reading items") as step:
            items = read_items(spark, config, publication, used, inherited, progress)
            step.result = f"{items.usable:,} usable of {items.read:,}; {items.kept.told}"
            step.fields = {"usable": items.usable, "read": items.read}
        with progress.step("clicks", "reading and splitting clicks") as step:
            clicks, counts = read_clicks(spark, config, items, publication, used, kept)
            clicks, used.given = given.counted(clicks, Lists.of(config))
            clicks, excluded_lists = listed.counted(clicks)
            used.given |= excluded_lists
            taken = training_examples.counted(clicks, config, counts.totals[0])
            step.result = ", ".join(f"{name} {counts.totals[split]:,}" for split, name in enumerate(SPLITS))
            step.fields = {name: int(counts.totals[split]) for split, name in enumerate(SPLITS)}
        users_read = engine.meanwhile(
            spark, "users", "reading users, building vocabularies",
            lambda: with_user_features(spark, config, clicks, publication, used, kept, inherited),
        )  # fmt: skip
        heavy_found = engine.meanwhile(
            spark, "users", "looking for users of very many clicks",
            lambda: {} if items.kept.parts else heavy_users.found(clicks, sum(counts.totals)),
        )  # fmt: skip
        with progress.step("catalogue", "encoding items") as step:
            catalogue = items.catalogue(clicks, counts, used.time_unit)
            step.result = f"{catalogue.figures.clicked:,} items clicked"
            step.fields = {"items": catalogue.figures.items, "clicked": catalogue.figures.clicked}
        with progress.step("users", "reading users, building vocabularies"):
            clicks, user_fields, user_vocabularies = users_read()
            used.hashes["availability"] = catalogue.limits
        with progress.step("plan", "writing items, sharing the catalogue, placing blocks"):
            plan = plan_for(config, publication, catalogue, user_fields, user_vocabularies, used.time_unit, epoch_from)
            vocabularies = stored_vocabularies(publication, user_vocabularies) | catalogue.vocabularies(publication)
            stored_items, items_digest = catalogue.item_split(plan)
            if before is not None:
                appending.check_inputs(before, used, plan.record, items_digest, vocabularies)
            cut = bundles.ranges(plan, max(counts.totals))
            plan = dataclasses.replace(plan, ranges=cut, heavy_users=heavy_found())
            if plan.record.layout != "row":
                inside = taken.written(plan.record.layout)
                boundaries = blocks.store_boundaries(clicks, plan, inside, publication.work)
                plan = dataclasses.replace(plan, boundaries=boundaries)
        with progress.step("records", "drawing negatives, writing records") as step:
            written = write_records(clicks, plan)
            step.fields = {name: sum(written[name].to_pylist()) for name in ("records", "bytes")}
            step.result = f"{step.fields['records']:,} records, {step.fields['bytes'] / 1e6:.1f} MB"
        with progress.step("publish", "publishing"):
            manifest = assembled(
                config, plan, catalogue, taken, written, used, stored_items, items_digest, vocabularies, publication,
                inherited,
            )  # fmt: skip
            manifest = dataclasses.replace(
                manifest,
                proposal={**manifest.proposal, **catalogue.facts},
                timings_seconds={**progress.seconds, "total": progress.total},
            )
            return publication.commit(manifest if before is None else appending.appended(before, manifest))


def inherit(config: Config, progress: Progress) -> Inherited | None:
    """The earlier dataset whose indices stay, if the job goes on from one."""
    if config.inherit is None:
        return None
    with progress.step("inherit", "reading the earlier dataset") as step:
        inherited = Inherited.of(config)
        step.result = "none there: a fresh start" if inherited is None else inherited.told
    return inherited


def read_items(
    spark: SparkSession, config: Config, publication: Publication, used: Used, inherited: Inherited | None = None,
    progress: Progress | None = None,
) -> Items:  # fmt: skip
    """The usable items; rejected ones are stored, and an error where there are too many."""
    rows = inputs.entities(spark, config.items, "items", config.features.item, config.items.title)
    kept = kind.chosen(config, rows)
    if kept.doubt and progress is not None:
        progress.tell("warning", f"WARNING: {kept.doubt}", "warning")
    if kept.parts:
        return PartitionedItems.of(spark, config, rows, kept, publication, used)
    return MappedItems.of(spark, config, rows, kept, publication, used, inherited)


def read_clicks(
    spark: SparkSession, config: Config, items: Items, publication: Publication, used: Used, kept: ExitStack
) -> tuple[DataFrame, ClickCounts]:
    """(usable clicks with their split and key, sorted within users and kept for the steps to come; their counts)."""
    numbers, within = numbers_of(spark, items, publication), Period.of(config)
    marked = intake.clicks(spark, config.clicks, numbers, within)
    # Lists and a split by time go by the unit of times, and how many clicks a day has is known by a pass over them.
    first = intake.has_lists(config) or config.split.kind == "time" or within is not None
    if first:
        account_clicks(used, marked.counted(), publication)
    lists = beside(spark, config, items, numbers, marked, publication, used)
    clicks = marked.split(config, kept, used.time_unit, lists)
    read = None if first else engine.meanwhile(spark, "clicks", "counting clicks", marked.given.count)
    counts = items.counted(clicks)
    if read is not None:  # no pass over the clicks for what cannot be used, where nothing is missing
        taken = marked.all_usable(counts) if 0 < counts.rows == read() else marked.counted()
        account_clicks(used, taken, publication)
    counts.check()
    used.hashes["clicks"] = counts.hash
    return clicks, counts


def account_clicks(used: Used, taken: ClickIntake, publication: Publication) -> None:
    """Counts the clicks, and stores those that are rejected; an error where there are too many, or none can be used."""
    rejects.account(used, "clicks", taken.read, taken.reasons, taken.rejected, publication)
    if "unknown_item" in taken.reasons:
        used.unmatched_items = taken.rejected.where("reason = 'unknown_item'").select("key").distinct().count()
    used.time_unit = taken.time_unit


def numbers_of(spark: SparkSession, items: Items, publication: Publication) -> DataFrame:
    """key, number of the items, read by executors; the schema is told, as inferring it is a Spark job."""
    return spark.read.schema(f"key {items.key_type}, number int").parquet(str(publication.work / "numbers.parquet"))


def beside(
    spark: SparkSession, config: Config, items: Items, numbers: DataFrame, clicks: MarkedClicks,
    publication: Publication, used: Used,
) -> Beside | None:  # fmt: skip
    """What lists of items come from; None where the proposal draws from none and clicks exclude none."""
    lists, keys, shown = Lists.of(config), publication.work / "keys.arrow", None
    if not intake.has_lists(config):
        return None
    items.store_keys(keys)
    if lists.impressions is not None and config.impressions is not None:
        shown = intake.impressions(spark, config.impressions, numbers, clicks.rows)
        rejects.account(used, "impressions", shown.read, shown.reasons, shown.rejected, publication)
    return Beside(lists, numbers, Keys(str(keys)), shown)


def with_user_features(
    spark: SparkSession, config: Config, clicks: DataFrame, publication: Publication, used: Used, kept: ExitStack,
    inherited: Inherited | None = None,
) -> tuple[DataFrame, tuple[Any, ...], dict[str, list[str]]]:  # fmt: skip
    """(clicks with one raw `feature_*` column a user feature, where it is not the user, fields, vocabularies)."""
    features = config.features.user
    if config.users is None:  # a user is all that is known of them: no join
        if not features:
            return clicks, (), {}
        fields, vocabularies = users.fields_of_ids(clicks, features, inherited)
        return clicks, fields, vocabularies
    taken = intake.users(spark, config, clicks)
    kept.callback(taken.rows.unpersist)
    rows = taken.usable.select("key", *features)
    used.hashes["users"] = taken.hash
    rejects.account(used, "users", taken.read, taken.reasons, taken.rejected, publication)
    used.unmatched_users = users.unmatched(clicks, rows)
    if not features:
        return clicks, (), {}
    fields, vocabularies = users.resolved_fields(users.with_training_clicks(rows, clicks), features, inherited)
    renamed = rows.select(F.col("key").alias("user"), *[F.col(name).alias(f"feature_{name}") for name in features])
    return clicks.join(renamed, "user", "left"), fields, vocabularies


def write_records(clicks: DataFrame, plan: Plan) -> pa.Table:
    """Writes all shards; one row each of `records.RESULT`. The driver sees nothing that grows with the clicks."""
    source, rows = source_of(plan), negatives.row_schema(plan)

    def drawn(some: DataFrame, share: int | None) -> DataFrame:
        task = source.asking(lambda batches: negatives.with_negatives(batches, plan, share))
        return blocks.by_user(source.joined(some)).mapInArrow(task, source.schema(rows))

    parts = heavy_users.parted(clicks.drop(*plan.constant), plan.heavy_users)
    answered = source.answered(functools.reduce(DataFrame.union, starmap(drawn, parts)))
    ordered = answered.repartitionById(plan.parts, "part").sortWithinPartitions(*source.order)
    write = source.telling(lambda batches: records.written(batches, plan), negatives.arrow_schema(plan))
    with batches.of_rows(clicks.sparkSession, batches.row_bytes(plan, clicks)):
        return ordered.mapInArrow(write, records.RESULT).toArrow()
