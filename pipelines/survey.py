"""What a job would find: clicks, items and users counted as the job itself counts them, and a sample of whole users.

Nothing is written. Costs a pass over each input and one shuffle of the clicks; the driver receives the items and about
SAMPLE_CLICKS clicks (all of them where there are no more).
"""

import dataclasses
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import (
    catalogue,
    encoding,
    estimate,
    exclusion,
    given,
    history,
    inputs,
    intake,
    listed,
    mapped,
    parts,
    training_examples,
    users,
)
from pipelines.catalogue import Catalogue
from pipelines.config import Config, record_spec
from pipelines.duration import in_unit
from pipelines.estimate import Sample
from pipelines.given import Keys, Lists
from pipelines.inheritance import Inherited
from pipelines.intake import Beside
from pipelines.period import Period
from pipelines.split import TRAIN
from pipelines.training_examples import Examples
from samplers import rng
from samplers.composition import Composition
from samplers.part import Excluding
from schemas import wire
from schemas.errors import DataError
from schemas.features import Vocabulary
from schemas.record import Field, RecordSpec

SAMPLE_CLICKS = 200_000
_HASHES = 1 << 20


@dataclass(frozen=True)
class Survey:
    """What is there. rows: read and usable by input; rejected: by input, reason; clicks: [3, items] of each split."""

    rows: dict[str, tuple[int, int]]
    rejected: dict[str, int]
    unmatched_users: int
    catalogue: Catalogue
    clicks: npt.NDArray[np.int64]
    examples: Examples
    sample: Sample
    record: RecordSpec

    @property
    def written_clicks(self) -> int:
        """Training clicks that the records of one set of negatives hold."""
        return self.examples.written(self.record.layout)


def survey(spark: SparkSession, config: Config, sample_clicks: int = SAMPLE_CLICKS) -> Survey:
    """Counts the inputs and looks at a sample of users.

    Raises:
      DataError: inputs that the job itself would refuse, but for too many rejected rows, which are only told.
    """
    rows = inputs.entities(spark, config.items, "items", config.features.item, config.items.title)
    items = catalogue.checked_items(rows.toArrow(), config.features, f"items ({config.items.path})")
    reasons = {"items": dict(Counter(items.rejected["reason"].to_pylist()))}
    numbers, lists, beside = spark.createDataFrame(items.numbers), Lists.of(config), None
    marked = intake.clicks(spark, config.clicks, numbers, Period.of(config))
    taken = marked.counted()
    read, reasons["clicks"] = {"items": items.read, "clicks": taken.read}, taken.reasons
    if intake.has_lists(config):
        shown = None
        if lists.impressions is not None and config.impressions is not None:
            shown = intake.impressions(spark, config.impressions, numbers, taken.rows)
            read["impressions"], reasons["impressions"] = shown.read, shown.reasons
        beside = Beside(lists, numbers, Keys(sent=items.numbers["key"].combine_chunks()), shown)
    items = items.in_unit(taken.time_unit, config.clicks.time_unit == "auto")
    with ExitStack() as kept:
        clicks = marked.split(config, kept, taken.time_unit, beside)
        counts, sums = mapped.count_clicks(clicks, items.table.num_rows)
        sums.check()
        clicks, _ = given.counted(clicks, lists)
        examples = training_examples.counted(clicks, config, int(counts[0].sum()))
        counted, _ = catalogue.build(items, counts[0], config.features, Inherited.of(config))
        counted = mapped.with_proposal(mapped.with_frequencies(counted, clicks, config, taken.time_unit)[0], config)
        found = intake.users(spark, config, clicks)
        kept.callback(found.rows.unpersist)
        known, unmatched = found.usable.select("key", *config.features.user), 0
        if config.users is not None:
            read["users"], reasons["users"] = found.read, found.reasons
            unmatched = users.unmatched(clicks, known)
        share = min(1.0, sample_clicks / counts.sum())
        sample, fields = _sample(config, clicks, known, counted, taken.time_unit, share)
    by_index = np.zeros((len(counts), len(counted)), np.int64)
    by_index[:, counted.index_of_number[: counts.shape[1]]] = counts
    return Survey(
        rows={name: (read[name], read[name] - sum(reasons[name].values())) for name in read},
        rejected={f"{name}.{reason}": rows for name, found in reasons.items() for reason, rows in found.items()},
        unmatched_users=unmatched,
        catalogue=counted,
        clicks=by_index,
        examples=examples,
        sample=sample,
        record=record_spec(config, fields, counted.fields, counted.gone is not None),
    )


def _sample(
    config: Config,
    clicks: DataFrame,
    known: DataFrame,
    counted: Catalogue,
    unit: str,
    share: float,
) -> tuple[Sample, tuple[Field, ...]]:
    """(means over whole users that make up about this share of all, their features as fields)."""

    def chosen(rows: DataFrame, key: str) -> DataFrame:
        return rows if share >= 1 else rows.where(F.pmod(F.xxhash64(key), F.lit(_HASHES)) < int(share * _HASHES))

    found, beside = parts.dependent(config), Lists.of(config).columns
    beside += [name for name in ("session", listed.NUMBERS) if name in clicks.columns]
    columns = ("user", "time", "number", "split", "weight", "click_key", *beside)
    taken = chosen(clicks, "user").select(*columns).toArrow()
    taken = taken.sort_by([(name, "ascending") for name in ("user", "time", "number", "click_key")]).combine_chunks()
    if not taken.num_rows:
        raise DataError("dry run: the sample of users came out empty; too few users click for an estimate")
    per_user = taken.group_by("user").aggregate([("time", "count")])
    fields, user_bytes = _user_bytes(config, chosen(known, "key").toArrow(), per_user, known, share)
    names, time = encoding.texts(taken["user"].combine_chunks()), taken["time"].to_numpy()
    item = counted.index_of_number[taken["number"].to_numpy()]
    gap = 0 if config.clicks.session_gap is None else in_unit(config.clicks.session_gap, unit)
    excluding = exclusion.of_clicks(
        taken,
        config.negatives.levels,
        history.ranges(names, time, config.history.ties),
        item,
        counted.index_of_number,
        counted.availability,
        gap,
    )

    def compose(exclusion: Excluding, excluded: npt.NDArray[np.int64]) -> Composition:
        lists = parts.lists_of(taken, found, counted.index_of_number)
        return parts.composition(found, config.negatives.count, counted, exclusion, excluded, item, lists)

    split, able = taken["split"].to_numpy().astype(np.int64), taken["weight"].to_numpy() > 0
    own = training_examples.at_most(
        history.first_of_user(taken["user"].chunk(0)), (split == TRAIN) & able, config.examples.per_user or 0,
        rng.keyed(config.negatives.seed, taken["click_key"].to_numpy()),
    )  # fmt: skip
    sample = estimate.sampled(
        names,
        time,
        item,
        split,
        own | (split != TRAIN) & able,
        counted,
        config.history.ties,
        config.history.length,
        excluding,
        config.layout.window if config.layout.kind == "sequence" else 0,
        share,
        user_bytes,
        None if not found else compose,
    )
    return dataclasses.replace(sample, in_batch=config.negatives.proposal.in_batch_share), fields


def _user_bytes(
    config: Config, known: pa.Table, per_user: pa.Table, everyone: DataFrame, share: float
) -> tuple[tuple[Field, ...], dict[str, float]]:
    """(user fields, mean payload bytes a click by key), from sampled users weighted by their clicks."""
    features = config.features.user
    if not features:
        return (), {}
    # Not Arrow's join, which takes no lists; a user without a row is null.
    row = pc.index_in(per_user["user"].combine_chunks(), value_set=known["key"].combine_chunks())
    joined = known.combine_chunks().take(row)
    weights = per_user["time_count"].to_numpy().astype(np.int64)
    distinct = _distinct(everyone, [n for n, s in features.items() if isinstance(s, Vocabulary)]) if share < 1 else {}
    fields, sizes = [], {}
    for name, spec in features.items():
        field, values, fragments = encoding.learned(name, spec, joined[name].combine_chunks(), weights)
        mean = wire.lengths_of(fragments.values) @ weights / weights.sum()
        if values is not None and distinct.get(name, 0) > len(values):
            mean *= _longer(len(values), distinct[name])
        sizes[f"user.{name}"] = float(mean)
        if fragments.lengths is not None:
            sizes[f"user.{name}.lengths"] = float(wire.lengths_of(fragments.lengths) @ weights / weights.sum())
        fields.append(field)
    return tuple(fields), sizes


def _distinct(everyone: DataFrame, names: list[str]) -> dict[str, int]:
    """About how many distinct values each feature has."""
    found = [F.approx_count_distinct(F.col(name).cast("string")).alias(name) for name in names]
    return everyone.agg(*found).collect()[0].asDict() if names else {}


def _longer(sampled: int, distinct: int) -> float:
    """How much longer the indices of so many values are than those of a sample's."""
    steps = np.linspace(1, distinct, 1000)
    return float(estimate.varint_bytes(steps).mean() / estimate.varint_bytes(np.linspace(1, sampled, 1000)).mean())
