"""A whole job with its output on S3, and everybody who reads it there: the same data as on a disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from pipelines.config import Output
from schemas.errors import ConfigurationError
from schemas.manifest import Dataset
from tests.conftest import Bucket, s3_environment

BLOCK = {"kind": "block", "clicks": 32}


@pytest.fixture(scope="module")
def stored(spark, s3_server, jobs, world_job):
    """A finished dataset on S3 and its bucket; Spark's Python workers are told of the store as well."""
    environment = s3_environment(s3_server)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
            patch.setitem(spark.sparkContext.environment, name, value)
        bucket = Bucket("jobs")
        document = world_job(layout=BLOCK, output={"path": f"s3a://{bucket.name}/data/block"})
        yield SimpleNamespace(bucket=bucket, document=document, dataset=jobs.run(spark, document))


@pytest.mark.spark
def test_a_job_writes_what_it_writes_on_a_disk(stored, block, clicks_read):
    from pipelines import report

    dataset = Dataset.open(stored.dataset.uri)
    assert dataset.uri == "s3://jobs/data/block"
    assert dataset.manifest.content_digest == block.manifest.content_digest
    assert report.write(dataset) == "s3://jobs/data/block/report.html"
    named = {file.path for file in dataset.manifest.stored_files()} | {"manifest.json", "report.html"}
    assert stored.bucket.names() == sorted(f"data/block/{path}" for path in named)
    assert clicks_read(dataset) == clicks_read(block)
    manifest = stored.bucket.read("data/block/manifest.json")
    assert not [value for value in (b"a-secret-of-the-test", b"testing") if value in manifest]


@pytest.fixture(scope="module")
def clicks_read():
    """Reads all raw records of a split, checked, sorted."""
    import io

    from schemas import tfrecord

    def read(dataset):
        found: list[bytes] = []
        for shard in dataset.manifest.splits["train"].shards:
            dataset.check(shard)
            with dataset.opened(shard) as stream:
                found += tfrecord.read_frames(io.BytesIO(stream.read()), shard.path)
        return sorted(found)

    return read


@pytest.mark.spark
def test_rejected_rows_are_stored_too(spark, stored, jobs):
    import pyarrow as pa

    clicks = [(user, item, 900_000_000 + user) for user in range(5) for item in range(4)] + [(1, 99, 900_000_000)]
    paths = jobs.inputs(clicks, pa.table({"item_id": range(4)}))
    output = {"path": f"{stored.bucket.uri}/data/rejects"}
    dataset = jobs.run(spark, jobs.document(paths, output=output, limits={"rejected_share": 0.5}))
    assert dataset.manifest.rejected == {"clicks.unknown_item": 1}
    (file,) = [file for file in dataset.manifest.stored_files() if file.path.startswith("rejected/")]
    dataset.check(file)


@pytest.mark.spark
def test_a_job_that_fails_publishes_nothing(spark, stored, jobs, world_job, monkeypatch):
    from pipelines import job

    def failing(*_):
        assert [key for key in stored.bucket.names() if "data/failing/train/part-" in key]
        raise RuntimeError("as late as can be")

    monkeypatch.setattr(job, "assembled", failing)
    with pytest.raises(RuntimeError, match="as late"):
        jobs.run(spark, world_job(layout=BLOCK, output={"path": f"{stored.bucket.uri}/data/failing"}))
    assert [key for key in stored.bucket.names() if "data/failing" in key] == []


@pytest.mark.spark
def test_a_dataset_that_is_there_is_exit_code_4(stored, tmp_path):
    from pipelines.prebatch import main

    before = stored.bucket.read("data/block/manifest.json")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(stored.document))
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "job.yaml")])
    assert result.exit_code == 4
    assert "error: s3://jobs/data/block holds a dataset already; replace it with --overwrite" in result.output
    assert stored.bucket.read("data/block/manifest.json") == before


@pytest.mark.spark
def test_inspect_shows_and_verifies_it(stored):
    from pipelines.inspect import main

    result = CliRunner().invoke(main, ["s3://jobs/data/block", "--records", "2", "--verify"])
    assert result.exit_code == 0, result.output
    assert "verified" in result.output
    assert "positive" in result.output


@pytest.mark.beam
def test_audit_reads_it_and_finds_what_is_wrong(bucket, tmp_path):
    from pipelines.audit import main
    from tests.pipelines.audited import Crafted

    uri = bucket.upload(Crafted("block").write(tmp_path).root, "data")
    result = CliRunner().invoke(main, [uri])
    assert result.exit_code == 0, result.output
    shard = next(key for key in bucket.names() if "/train/" in key)
    data = bytearray(bucket.read(shard))
    data[-1] ^= 1
    bucket.put(shard, bytes(data))
    bucket.put("data/train/part-of-nobody.tfrecord", b"")
    result = CliRunner().invoke(main, [uri])
    assert result.exit_code == 1
    assert "CRC-32C" in result.output
    assert "part-of-nobody.tfrecord: the manifest does not name this file" in result.output
    result = CliRunner().invoke(main, [f"{bucket.uri}/nothing"])
    assert result.exit_code == 2


@pytest.mark.spark
def test_executors_must_see_the_work_folder(spark, tmp_path, monkeypatch):
    from pipelines import outputs

    on_cluster: Any = SimpleNamespace(conf={"spark.master": "spark://host:7077"})
    outputs.check_work(spark, Output(path="s3://bucket/x"))  # one machine
    outputs.check_work(on_cluster, Output(path=str(tmp_path)))  # a disk
    with pytest.raises(ConfigurationError, match=r"output\.work: executors need .* that all machines mount"):
        outputs.check_work(on_cluster, Output(path="s3://bucket/x"))
    output = Output(path="s3://bucket/x", work=str(tmp_path / "work"))
    asked = []

    def without(_, path):
        asked.append(Path(path).exists())
        return ["host-7"]

    monkeypatch.setattr(outputs, "_without", without)
    with pytest.raises(ConfigurationError, match=r"work of the driver's is not there on host-7$"):
        outputs.check_work(on_cluster, output)
    assert asked == [True]
    assert list((tmp_path / "work").iterdir()) == []
    monkeypatch.undo()
    assert outputs._without(spark, str(tmp_path / "work")) == []
    assert len(outputs._without(spark, str(tmp_path / "nowhere"))) == 1
