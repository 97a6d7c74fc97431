"""The same inputs, configuration and seed give the same content_digest, however the work is cut up."""

from contextlib import ExitStack

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.spark

PARALLELISM = {
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.files.maxPartitionBytes": "2000",
    "spark.sql.autoBroadcastJoinThreshold": "-1",
}


@pytest.fixture
def settings(changed):
    """Changes settings of the session for one test."""
    with ExitStack() as inside:
        yield lambda **given: inside.enter_context(changed(given))


def scattered(jobs, world, parts, backwards):
    """The world's inputs in folders of several files, their rows and names in another order."""
    clicks, items, users = world.tables()
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*clicks, strict=True)), strict=True))
    folder = jobs.folder()
    paths = {}
    for name, table in {"clicks": pa.table(columns), "items": items, "users": users}.items():
        order = list(range(table.num_rows))
        order = order[::-1] if backwards else order[1::2] + order[::2]
        (folder / name).mkdir()
        for part in range(parts):
            pq.write_table(table.take(order[part::parts]), folder / name / f"part-{(7 * part) % 10}-{part}.parquet")
        paths[name] = str(folder / name)
    return paths


def with_paths(document, paths):
    return document | {name: document[name] | {"path": path} for name, path in paths.items()}


@pytest.mark.parametrize(("partitions", "files", "backwards"), [(1, 1, True), (8, 5, False)])
def test_partitions_files_and_their_order_do_not_matter(
    spark, jobs, world, world_job, block, settings, partitions, files, backwards
):
    settings(**{"spark.sql.shuffle.partitions": str(partitions), **PARALLELISM})
    paths = scattered(jobs, world, files, backwards)
    document = with_paths(world_job(layout={"kind": "block", "clicks": 32}), paths)
    assert jobs.run(spark, document).manifest.content_digest == block.manifest.content_digest


def test_shards_and_compression_do_not_matter_to_a_shared_pool_either(
    spark, jobs, world, world_job, pool, pool_sections, settings
):
    settings(**{"spark.sql.shuffle.partitions": "5", **PARALLELISM})
    document = with_paths(world_job(**pool_sections), scattered(jobs, world, 3, True))
    document["output"] |= {"shards": 5, "compression": "gzip"}
    written = jobs.run(spark, document).manifest
    assert written.content_digest == pool.manifest.content_digest
    assert all(shard.path.endswith(".tfrecord.gz") for shard in written.splits["train"].shards)
    assert len(written.splits["train"].shards) == 10  # 5 of each set of negatives


@pytest.mark.parametrize(
    ("partitions", "files", "backwards", "output"),
    [(1, 1, True, {"shards": 3, "compression": "gzip"}), (5, 4, False, {"shards": 2})],
)
def test_nor_do_they_to_windows_and_their_records(
    spark, jobs, world, world_job, sequence, sequence_sections, settings, partitions, files, backwards, output
):
    settings(**{"spark.sql.shuffle.partitions": str(partitions), **PARALLELISM})
    document = with_paths(world_job(**sequence_sections), scattered(jobs, world, files, backwards))
    document["output"] |= output
    written = jobs.run(spark, document).manifest
    assert written.content_digest == sequence.manifest.content_digest
    assert len(written.splits["train"].shards) == 2 * output["shards"]


def test_text_formats_give_the_same_dataset(spark, jobs, world, world_job, block):
    clicks, items, users = world.tables()
    folder = jobs.folder()
    columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*clicks, strict=True)), strict=True))
    pa_csv.write_csv(pa.table(columns), folder / "clicks.csv")
    for name, table in {"items": items, "users": users}.items():
        spark.createDataFrame(table).write.json(str(folder / f"{name}.json"))
    document = world_job(layout={"kind": "block", "clicks": 32})
    paths = {"clicks": "clicks.csv", "items": "items.json", "users": "users.json"}
    document = with_paths(document, {name: str(folder / path) for name, path in paths.items()})
    assert jobs.run(spark, document).manifest.content_digest == block.manifest.content_digest


def test_another_seed_draws_anew(spark, jobs, world_job, block, read_clicks):
    document = world_job(layout={"kind": "block", "clicks": 32})
    document["negatives"] |= {"seed": 12}
    other = jobs.run(spark, document)
    assert other.manifest.content_digest != block.manifest.content_digest

    def drawn(dataset):
        return {
            (c["epoch"], c["user.user_id"], c["time"], tuple(x["index"] for x in c["candidates"]))
            for c in read_clicks(dataset)
        }

    # 6 draws seldom fall alike; the positives, histories and held-out clicks are the same.
    assert len(drawn(other) & drawn(block)) < 0.02 * len(drawn(block))
    assert read_clicks(other, "test") != []
    key = repr
    assert sorted(map(key, strip(read_clicks(other, "test")))) == sorted(map(key, strip(read_clicks(block, "test"))))


def strip(clicks):
    """Clicks without where they are stored."""
    return [{name: value for name, value in click.items() if name not in ("record", "slot")} for click in clicks]


def test_the_order_of_identical_clicks_is_no_whim_of_a_sort(spark, jobs, monkeypatch, read_clicks):
    """Rows that tie in all but their occurrence are handed to the last sort in both orders."""
    from pyspark.sql import functions as F

    from pipelines import job

    clicks = [(user, item, 900_000_000) for user in range(8) for item in (1, 1, 1, 2, 2)]
    items = pa.table({"item_id": pa.array(range(1, 30))})
    paths = jobs.inputs(clicks, items)
    original = job.write_records
    digests = set()
    for rising in (True, False):
        order = F.col("click_key").asc() if rising else F.col("click_key").desc()

        def turned(rows, plan, order=order):
            # Through Arrow, as Spark leaves out a sort that another one follows.
            return original(spark.createDataFrame(rows.orderBy("user", order).toArrow()).coalesce(1), plan)

        monkeypatch.setattr(job, "write_records", turned)
        document = jobs.document(paths, history={"ties": "order"}, split={"kind": "leave_last"})
        digests.add(jobs.run(spark, document).manifest.content_digest)
    assert len(digests) == 1


def test_a_second_run_in_a_session_reads_its_input_anew(spark, jobs):
    items = pa.table({"item_id": pa.array(range(1, 9))})
    users = pa.table({"user_id": pa.array([1, 2])})
    paths = jobs.inputs([(1, 1, 900_000_000), (1, 2, 900_000_001)], items, users)
    document = jobs.document(paths)
    first = jobs.run(spark, document).manifest
    other = jobs.inputs([(1, 1, 900_000_000), (2, 2, 900_000_001), (2, 3, 900_000_009)], items, users)
    pq.write_table(pq.read_table(other["clicks"]), paths["clicks"])
    second = jobs.run(spark, document, overwrite=True).manifest
    assert (first.rows["clicks"]["read"], second.rows["clicks"]["read"]) == (2, 3)
    assert not list(spark.sparkContext._jsc.getPersistentRDDs())
