"""--dry-run: the plan in words, and an estimate of records and bytes, before anything is written."""

import os
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from pyspark.sql import SparkSession

from pipelines import estimate, words
from pipelines.config import Config
from pipelines.engine import parallelism
from pipelines.estimate import Volume
from pipelines.progress import Progress
from pipelines.split import SPLITS
from pipelines.survey import Survey, survey
from schemas import storage, tfrecord
from schemas.manifest import MANIFEST
from schemas.storage import LocalFolder


def text(spark: SparkSession, config: Config, progress: Progress | None = None, epoch_from: int = 0) -> str:
    """The plan, the estimate and what is worth knowing before the job runs. Writes nothing.

    epoch_from: sets of negatives that are there already; the estimate is of what is appended to them.
    """
    if progress is None:
        progress = Progress()
        progress.watch(spark)
    with progress.step("survey", "counting items, clicks and users"):
        found = survey(spark, config)
    lines = ["", "dry run: nothing is written", "", *_inputs(found), "", "plan"]
    for name, sentence in words.choices(config.model_dump(mode="json", exclude_none=True)):
        lines.append(textwrap.fill(sentence, 118, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13))
    volumes = estimated(config, found, epoch_from)
    lines += ["", *_estimate(config, found, volumes)]
    lines += _appended(config, epoch_from) if epoch_from else _other_layouts(config, found)
    warnings = list(worth_knowing(spark, config, found, volumes, epoch_from))
    if warnings:
        lines += ["", "worth knowing", *(f"  - {warning}" for warning in warnings)]
    return "\n".join(lines)


def estimated(config: Config, found: Survey, epoch_from: int = 0) -> dict[str, Volume]:
    """What each split would take; where sets are appended, those sets alone."""
    spec, items, sample, clicks = found.record, found.catalogue, found.sample, found.clicks
    sets = config.negatives.epochs - epoch_from
    volumes = {"train": estimate.train_volume(spec, items, sample, found.written_clicks, sets)}
    if epoch_from:
        return volumes
    for number in (1, 2):
        volumes[SPLITS[number]] = estimate.held_out_volume(spec, items, sample, clicks[number])
    return volumes | {"items": estimate.items_volume(spec, items)}


def _inputs(found: Survey) -> Iterator[str]:
    yield f"{'input':<12}{'read':>14}{'usable':>14}"
    for name, (read, used) in found.rows.items():
        yield f"{name:<12}{read:>14,}{used:>14,}"
    yield from words.examples(found.examples.to_json(), found.record.layout)
    for reason, rows in sorted(found.rejected.items(), key=lambda pair: (-pair[1], pair[0])):
        source, _, why = reason.partition(".")
        yield f"  {words.counted(rows, 'row')} of {source} would be rejected: {why}"


def _estimate(config: Config, found: Survey, volumes: dict[str, Volume]) -> Iterator[str]:
    yield f"{'estimate':<12}{'clicks':>14}{'records':>14}{'size':>14}{'bytes/click':>14}"
    for name, volume in volumes.items():
        clicks = f"{volume.clicks:,}" if name != "items" else ""
        each = f"{volume.bytes / volume.clicks:,.0f}" if volume.clicks else ""
        yield f"{name:<12}{clicks:>14}{volume.records:>14,}{words.size(volume.bytes):>14}{each:>14}".rstrip()
    yield f"{'total':<12}{'':>14}{'':>14}{words.size(sum(volume.bytes for volume in volumes.values())):>14}"
    sample = found.sample
    of = f"{words.counted(sample.users, 'user')} with {words.counted(sample.clicks, 'click')}"
    how = f"from {of}, a sample of {sample.share:.1%} of the users" if sample.share < 1 else f"from all {of}"
    chance = f"; mean history length to ±{sample.error:.0%} for the choice of users" if sample.share < 1 else ""
    yield f"  clicks and records are counted, sizes estimated {how}{chance}"
    if config.output.compression == "gzip":
        yield "  sizes are those before gzip, whose effect is not estimated"


def _appended(config: Config, epoch_from: int) -> Iterator[str]:
    sets = words.counted(config.negatives.epochs - epoch_from, "set")
    yield f"  {sets} of negatives would be appended to the {epoch_from:,} that are there"


def _other_layouts(config: Config, found: Survey) -> Iterator[str]:
    """What the same negatives would take in the other layout."""
    spec, clicks = found.record, found.examples.count
    if spec.per == "block":
        return
    other = replace(spec, layout="block", clicks=512) if spec.layout == "row" else replace(spec, layout="row", clicks=1)
    volume = estimate.train_volume(other, found.catalogue, found.sample, clicks, config.negatives.epochs)
    name = "{kind: block, clicks: 512}" if other.layout == "block" else "{kind: row}"
    each = volume.bytes / volume.clicks
    yield f"  train with layout: {name} instead: {words.size(volume.bytes)}, {each:,.0f} bytes/click"


def worth_knowing(
    spark: SparkSession, config: Config, found: Survey, volumes: dict[str, Volume], epoch_from: int = 0
) -> Iterator[str]:
    """What may surprise later, one sentence each."""
    yield from _about_rows(config, found)
    yield from _about_draws(config, found)
    yield from _about_files(spark, config, volumes, epoch_from)


def _about_rows(config: Config, found: Survey) -> Iterator[str]:
    for name, (read, used) in found.rows.items():
        if read - used > config.limits.rejected_share * read:
            yield (
                f"{read - used:,} of {read:,} rows of {name} cannot be used, more than limits.rejected_share "
                f"({config.limits.rejected_share:.2%}) allows: the job would fail"
            )
    if found.unmatched_users:
        absent = words.counted(found.unmatched_users, "user")
        yield f"{absent} with clicks but no row in users: their features will be missing"
    if config.split.kind != "none" and not found.clicks[1:].sum():
        yield f"split: {config.split.kind} leaves no click to validate or test on"


def _about_draws(config: Config, found: Survey) -> Iterator[str]:
    negatives, q = config.negatives, found.catalogue.proposal.table.probabilities
    asked = f"negatives.count {negatives.count:,}"
    drawable, sample = int((q > 0).sum()), found.sample
    if negatives.count > drawable:
        yield f"{asked} is larger than the {drawable:,} items that can be drawn: many will repeat"
    elif negatives.count > drawable // 2 and not config.unique:
        yield f"{asked} is over half of the {drawable:,} items that can be drawn: some will repeat"
    if drawable < len(q):
        within = " within frequencies.window" if config.frequencies.window else ""
        yield (
            f"{words.counted(len(q) - drawable, 'item')} without a training click{within} will never be a negative, "
            "and may float to the top unseen: give uniform a share of negatives.proposal"
        )
    if sample.without_draws and negatives.per == "click":
        fate = "are masked" if negatives.shortage == "mask" else "make the job fail (negatives.shortage: error)"
        lack = f"fewer than {negatives.count:,} different items" if config.unique else "nothing"
        yield f"{sample.without_draws:.2%} of training clicks have {lack} left to draw: they {fate}"
    if not {"history", "user"} & set(negatives.levels):
        named = ", ".join(negatives.levels) or "none"
        yield (
            f"negatives.exclude: {named} leaves accidental hits: items that the user had before are drawn "
            "as negatives (history would leave them out)"
        )
    elif negatives.per == "block":
        hits = negatives.count * sample.excluded
        yield f"about {hits:,.1f} of a click's {negatives.count:,} pool slots will be accidental hits, to be masked"


def _about_files(spark: SparkSession, config: Config, volumes: dict[str, Volume], epoch_from: int) -> Iterator[str]:
    cores, train = parallelism(spark), volumes["train"]
    shards = config.output.shards * (config.negatives.epochs - epoch_from)
    if cores > shards:
        yield (
            f"{words.counted(shards, 'train shard')} for {cores:,} cores: raise output.shards, "
            "or cores will be idle while records are written"
        )
    if train.records < shards:
        yield f"{words.counted(train.records, 'train record')} for {shards:,} shards: some stay empty"
    if train.records and train.bytes / train.records > tfrecord.MAX_RECORD_BYTES // 16:
        fewer = "layout.positions" if config.layout.kind == "sequence" else "layout.clicks"
        yield f"a record takes {words.size(train.bytes / train.records)}: lower {fewer} or negatives.count"
    total = sum(volume.bytes for volume in volumes.values())
    where = storage.folder(config.output.path)
    if where.exists(MANIFEST) and not epoch_from:
        yield f"{where} holds a dataset already: the job needs --overwrite"
    if not isinstance(where, LocalFolder):
        return
    root = where.path.absolute()
    parent = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if config.output.compression == "none" and total > free:
        yield f"{words.size(total)} are more than the {words.size(free)} free at {parent}: the job would fail"
    if not os.access(parent, os.W_OK):
        yield f"{parent} cannot be written: the job would fail"
