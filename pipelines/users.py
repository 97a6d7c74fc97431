"""The user side: vocabularies and boundaries from training users, and the columns that travel with the clicks.

Users may be many, so they stay in Spark and are joined to the clicks; only vocabularies come to the driver (their
values, not the users). Executors encode them with the code that encodes items.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines import encoding
from pipelines.encoding import Learned
from schemas.errors import DataError
from schemas.features import Buckets, FeatureSpec, Plain, Vocabulary
from schemas.record import Field

FREQUENCIES = "feature string, value string, weight long"


def checked_users(rows: DataFrame, features: dict[str, FeatureSpec], where: str) -> DataFrame:
    """Every user: key, features; reason where it cannot be used (no key, a taken one, unusable numbers); row (JSON)."""
    schema = pa.schema(_arrow_fields(rows))
    for name, spec in features.items():
        encoding.check_type(name, spec, schema.field(name).type, where)
    reason = F.when(F.col("key").isNull(), F.lit("null_key"))
    for name, spec in features.items():
        if isinstance(spec, Plain) and spec.shape != "scalar":
            reason = reason.when(F.size(name) != spec.shape[0], F.lit(f"wrong_length:{name}"))
            values = F.transform(F.col(name), lambda v: v.cast("float"))  # as it will be stored
            bad = F.exists(values, lambda v: F.isnan(v) | (F.abs(v) == float("inf")))
            reason = reason.when(bad, F.lit(f"non_finite:{name}"))
        elif not isinstance(spec, Vocabulary):
            value = F.col(name).cast("float" if isinstance(spec, Plain) else "double")
            reason = reason.when(F.isnan(value) | (F.abs(value) == float("inf")), F.lit(f"non_finite:{name}"))
    marked = rows.withColumn("row", F.to_json(F.struct(*rows.columns))).withColumn("reason", reason)
    # Of several usable rows of one key, the first by content stays, whatever order they were read in.
    position = F.row_number().over(Window.partitionBy("key").orderBy(F.col("reason").isNotNull(), "row"))
    repeated = F.col("reason").isNull() & (position > 1)
    return marked.withColumn("reason", F.when(repeated, "duplicate_key").otherwise(F.col("reason")))


def _arrow_fields(rows: DataFrame) -> Iterator[pa.Field]:
    from pyspark.sql.pandas.types import to_arrow_type

    for field in rows.schema.fields:
        yield pa.field(field.name, to_arrow_type(field.dataType))


def with_training_clicks(users: DataFrame, clicks: DataFrame) -> DataFrame:
    """Adds `weight`, a user's training clicks; users without any are left out."""
    counted = clicks.where("split = 0").groupBy(F.col("user").alias("key")).agg(F.count("*").alias("weight"))
    return users.join(counted, "key")


def fields_of_ids(
    clicks: DataFrame, features: dict[str, FeatureSpec], before: Learned | None = None
) -> tuple[tuple[Field, ...], dict[str, list[str]]]:
    """The same as `resolved_fields` of users of whom nothing is known but their ids, which all `features` then are."""
    weight = F.count_if(F.col("split") == 0).alias("weight")
    counted = clicks.groupBy("user").agg(weight).where("weight > 0")
    ids = {name: spec for name, spec in features.items() if isinstance(spec, Vocabulary) and spec.shape == "scalar"}
    if len(ids) < len(features):
        rows = counted.select(*[F.col("user").alias(name) for name in features], "weight")
        return resolved_fields(rows, features, before)
    # Each user once, in whole numbers or text: their own counts are the frequencies, and no Python has to start for it.
    frequencies = counted.select(F.col("user").cast("string").alias("value"), "weight").toArrow()
    vocabularies = {
        name: encoding.vocabulary(spec, frequencies, () if before is None else before.vocabularies[name])
        for name, spec in ids.items()
    }
    return tuple(encoding.resolved(name, ids[name], len(vocabularies[name]), None) for name in ids), vocabularies


def resolved_fields(
    users: DataFrame, features: dict[str, FeatureSpec], before: Learned | None = None
) -> tuple[tuple[Field, ...], dict[str, list[str]]]:
    """(fields, vocabularies by feature) of the user features, from users `with_training_clicks`.

    before: what is inherited, and stays.
    """
    vocabulary_specs = {name: spec for name, spec in features.items() if isinstance(spec, Vocabulary)}
    vocabularies = _vocabularies(users, vocabulary_specs, before) if vocabulary_specs else {}
    quantiles = {n: s.quantiles for n, s in features.items() if isinstance(s, Buckets) and s.quantiles is not None}
    boundaries: dict[str, list[float]] = {}
    if before is not None:
        boundaries = {name: list(before.boundaries[name]) for name in quantiles}
    elif quantiles:
        shares = {name: [i / count for i in range(1, count)] for name, count in quantiles.items()}
        chosen = [F.percentile(F.col(n).cast("double"), F.array(*map(F.lit, s))).alias(n) for n, s in shares.items()]
        row = users.agg(*chosen).collect()[0]
        boundaries = {name: sorted(set(row[name] or [])) for name in quantiles}
    fields = []
    for name, spec in features.items():
        given = spec.boundaries if isinstance(spec, Buckets) else None
        fields.append(encoding.resolved(name, spec, len(vocabularies.get(name, ())), given or boundaries.get(name)))
    return tuple(fields), vocabularies


def _vocabularies(
    users: DataFrame, specs: dict[str, Vocabulary], before: Learned | None
) -> dict[str, list[str]]:  # fmt: skip
    shapes = {name: spec.shape for name, spec in specs.items()}  # plain values: a task needs no pydantic

    def weigh(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            weights = batch["weight"].to_numpy().astype(np.int64)
            for name, shape in shapes.items():
                table = encoding.value_weights(shape, batch[name], weights)
                columns = [
                    pa.array([name] * table.num_rows, pa.string()),
                    table["value"].cast(pa.string()),
                    table["weight"],
                ]
                yield from pa.table(columns, ["feature", "value", "weight"]).to_batches()

    rows = users.select(*specs, "weight").mapInArrow(weigh, FREQUENCIES)
    frequencies = rows.groupBy("feature", "value").agg(F.sum("weight").alias("weight")).toArrow()
    found = {}
    for name, spec in specs.items():
        own = frequencies.filter(pa.compute.equal(frequencies["feature"], name))
        found[name] = encoding.vocabulary(spec, own, () if before is None else before.vocabularies[name])
    return found


def unmatched(clicks: DataFrame, users: DataFrame) -> int:
    """Users that click but have no row of their own; their features are missing, their clicks are used."""
    return clicks.select(F.col("user").alias("key")).distinct().join(users, "key", "left_anti").count()


def same_key_type(clicks: DataFrame, users: DataFrame) -> None:
    """Raises a DataError where users could not be joined to clicks."""
    user, key = clicks.schema["user"].dataType, users.schema["key"].dataType
    if user != key:
        raise DataError(
            f"clicks.user is {user.simpleString()}, users.key is {key.simpleString()}: they cannot be joined; "
            "give both the same type"
        )
