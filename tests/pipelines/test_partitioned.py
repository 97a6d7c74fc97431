"""A partitioned catalogue gives the dataset that a mapped one gives, bit by bit; which of both, `auto` says."""

import io

import pyarrow as pa
import pytest

from pipelines import engine, kind, ranked_values
from pipelines.config import Config
from schemas import configuration

pytestmark = pytest.mark.spark

PARTITIONED = {"kind": "partitioned", "partition_bytes": 700}


def same(mapped, found):
    """Asserts that two manifests are of one dataset, and that they say so in the same figures."""
    assert mapped.statistics["catalogue"] == {"kind": "mapped", "partitions": 0}
    assert found.statistics["catalogue"]["kind"] == "partitioned"
    assert found.statistics["catalogue"]["partitions"] > 3
    assert len(found.items.shards) == found.statistics["catalogue"]["partitions"]
    assert found.content_digest == mapped.content_digest
    assert found.schema_fingerprint == mapped.schema_fingerprint
    assert found.proposal["observed"] == pytest.approx(mapped.proposal["observed"])
    assert (found.rows, found.rejected) == (mapped.rows, mapped.rejected)
    ours, theirs = ({**m.statistics, "catalogue": None} for m in (found, mapped))
    assert ours == theirs


@pytest.mark.parametrize(
    ("layout", "collected"), [({"kind": "row"}, 1 << 18), ({"kind": "block", "clicks": 32}, 2)], ids=["row", "block"]
)
def test_both_kinds_give_the_same_dataset(spark, jobs, world_job, request, monkeypatch, layout, collected):
    monkeypatch.setattr(ranked_values, "COLLECTED", collected)  # 2: vocabularies stay where they are
    mapped = request.getfixturevalue(layout["kind"]).manifest
    document = world_job(layout=layout)
    same(mapped, jobs.run(spark, document | {"catalogue": PARTITIONED}).manifest)


def hard_job(jobs):
    """Keys that are text but read like numbers, some repeated, missing or of items that nobody clicks."""
    keys = [str(10 * n) if n % 3 else str(n) for n in range(1, 61)] + ["never", "neither"]
    rows: list[tuple] = [(key, n % 5, [f"t{n % 7}", f"t{n % 3}"], n / 7) for n, key in enumerate(keys)]
    rows += [(None, 1, ["t1"], 0.0), ("100", 4, ["t9"], 1.0), ("100", 2, None, 9.0), ("20", None, ["t2"], float("inf"))]
    items = pa.table({
        "item_id": [row[0] for row in rows], "shelf": [row[1] for row in rows],
        "tags": pa.array([row[2] for row in rows], pa.list_(pa.string())), "price": [row[3] for row in rows],
    })  # fmt: skip
    events = [(user, keys[(user * user + 7 * n * n) % 60], 900_000_000 + 1_000 * n) for user in range(25) for n in
              range(1 + user % 9)] + [(99, key, 900_000_000) for key in keys[:60]]  # fmt: skip
    events.append((98, "unknown", 900_000_000))
    columns = [list(column) for column in zip(*events, strict=True)]
    clicks = pa.table(dict(zip(("user_id", "item_id", "timestamp"), columns, strict=True)))
    features = {
        "user": {"user_id": {"encode": "vocabulary"}},
        "item": {
            "item_id": {"encode": "vocabulary", "min_count": 2},
            "again": {"encode": "vocabulary", "column": "item_id", "max_size": 20},
            "tags": {"encode": "vocabulary", "shape": "list", "max_size": 5},
            "shelf": {"encode": "vocabulary"},
            "price": {"encode": "buckets", "quantiles": 7},
        },
    }
    proposal = {"mixture": [{"log_uniform": {}, "share": 0.5}, {"popularity": {"exponent": 1.5}, "share": 0.5}]}
    return jobs.document(
        jobs.inputs(clicks, items), features=features, layout={"kind": "block", "clicks": 16},
        history={"features": ["tags"], "length": 3, "ties": "order"}, limits={"rejected_share": 0.2},
        negatives={"proposal": proposal, "count": 9, "exclude": ["user"], "shortage": "mask"},
        split={"kind": "time", "test_from": 900_007_000, "validation_from": 900_006_000},
    )  # fmt: skip


def test_nor_do_keys_of_text_rejected_rows_and_clicks_that_know_everything_make_a_difference(spark, jobs, monkeypatch):
    document = hard_job(jobs)
    mapped = jobs.run(spark, document).manifest
    assert mapped.rejected["items.duplicate_key"] == 3
    document["output"]["path"] += "-partitioned"
    monkeypatch.setattr(ranked_values, "COLLECTED", 6)
    same(mapped, jobs.run(spark, document | {"catalogue": PARTITIONED}).manifest)


def test_auto_goes_by_size_and_says_so(spark, jobs, monkeypatch):
    document = hard_job(jobs)

    def chosen(**catalogue):
        config = configuration.validate(Config, document | {"catalogue": catalogue}, "test")
        return kind.chosen(config, spark.read.parquet(config.items.path))

    assert chosen().kind == "mapped"
    assert "auto" in chosen().told
    assert chosen(mapped_bytes=1).kind == "partitioned"
    assert "catalogue.mapped_bytes is 1 bytes" in chosen(mapped_bytes=1).told
    several = chosen(mapped_bytes=1, partition_bytes=1_000)
    assert 3 <= several.parts <= 8  # 66 items of some 60 bytes
    assert chosen(kind="mapped", mapped_bytes=1).kind == "mapped"
    monkeypatch.setattr(engine, "driver_heap", lambda spark: 600)
    assert chosen().kind == "partitioned"
    assert "1/6 of the driver's memory (--driver-memory) is 100 bytes" in chosen().told
    assert chosen().doubt == ""
    assert "give --driver-memory 1g" in chosen(kind="mapped").doubt
    monkeypatch.undo()
    assert chosen(kind="mapped").doubt == ""
    document["frequencies"] = {"half_life": "7d"}
    served = chosen(mapped_bytes=1)
    assert served.kind == "mapped"
    assert "frequencies needs a mapped one" in served.told


def test_a_catalogue_that_may_be_too_large_is_told_of_before_it_is_read(spark, jobs, monkeypatch):
    """A JVM without memory takes its process with it, so nothing can be said afterwards."""
    from pipelines import job
    from pipelines.mapped import MappedItems
    from pipelines.progress import Progress

    def ended(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "driver_heap", lambda spark: 600)
    monkeypatch.setattr(MappedItems, "of", ended)
    config = configuration.validate(Config, hard_job(jobs) | {"catalogue": {"kind": "mapped"}}, "test")
    told = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        job.run(spark, config, False, Progress(told, live=False))
    assert told.getvalue().startswith("WARNING: items take about ")
    assert "exit code 52" in told.getvalue()


def test_the_jvm_tells_how_large_it_may_grow(spark):
    assert 1 << 30 < (engine.driver_heap(spark) or 0) <= 2 << 30  # of the 2g that tests/conftest.py gives it
