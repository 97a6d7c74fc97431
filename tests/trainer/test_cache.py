"""A dataset on an object store is trained on from a copy: the same batches, fetched once, checked on the way."""

import dataclasses

import google_crc32c
import pytest
from click.testing import CliRunner

from schemas.errors import CorruptDataset, EnvironmentProblem, ProjectError
from schemas.manifest import Dataset, Manifest, Shard, Split
from schemas.record import RecordSpec
from trainer import __main__ as trainer
from trainer import cache


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Where copies are kept; a function that lists them."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return lambda: {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}


WORDS = b"some bytes of a shard"


@pytest.fixture
def upload(bucket):
    """Writes a dataset of one shard to the store, as some run did."""
    spec = RecordSpec(
        user=(), item=(), history=(), history_length=1, layout="row", clicks=1, negatives=1, per="click"
    )  # fmt: skip
    shard = Shard("train/part-0.tfrecord", len(WORDS), google_crc32c.value(WORDS), 1, 1)
    manifest = Manifest(
        record=spec, splits={"train": Split.of([shard])}, items=Split.of([]), vocabulary={}, files={}, config={},
        seed=1, content_digest="d", time_unit="seconds",
    )  # fmt: skip

    def stored(data=WORDS, run="first"):
        bucket.put("data/train/part-0.tfrecord", data)
        bucket.put("data/manifest.json", dataclasses.replace(manifest, run=run).serialized())
        return Dataset.open(f"{bucket.uri}/data"), [shard]

    return stored


@pytest.mark.parametrize("changed", [WORDS[:-1] + b"D", WORDS[:-1], WORDS + b"x", b""])
def test_what_arrives_otherwise_than_the_manifest_says_is_not_kept(upload, copies, changed):
    """A flipped bit has the right size: only the checksum tells."""
    dataset, files = upload(changed)
    with pytest.raises(CorruptDataset, match=r"train/part-0\.tfrecord: .* expected by the manifest"):
        cache.copied(dataset, files)
    assert copies() == {}


@pytest.mark.parametrize("changed", [WORDS[:-1] + b"D", WORDS[:-1], b""])
def test_a_copy_that_has_changed_is_fetched_anew(upload, copies, changed):
    dataset, files = upload()
    path = cache.copied(dataset, files).path(files[0])
    path.write_bytes(changed)
    assert cache.copied(dataset, files).path(files[0]).read_bytes() == WORDS
    assert list(copies()) == [path]


def test_a_fetch_that_breaks_leaves_nothing(upload, copies, monkeypatch):
    dataset, files = upload()
    read = cache._read
    pieces = iter([True])

    def breaking(stream, source):
        if next(pieces, False):
            return read(stream, source)[:5]
        assert [path.name.startswith(".") for path in copies()] == [True]  # no half of a file under its own name
        raise ProjectError("the connection is gone")

    monkeypatch.setattr(cache, "_read", breaking)
    with pytest.raises(ProjectError, match="the connection is gone"):
        cache.copied(dataset, files)
    assert copies() == {}


def test_each_runs_dataset_has_a_copy_of_its_own(upload, copies):
    """Whoever trains on the dataset of before goes on reading it, while the one that replaced it is fetched."""
    first = cache.copied(*upload())
    before = copies()
    second = cache.copied(*upload(run="second"))
    assert first.root != second.root
    assert before.items() < copies().items()


def batches(dataset):
    from trainer.dataset import record_spec, train_batches

    found = train_batches(dataset, record_spec(dataset), 0, 1, 16, 100)
    return [(batch.items.index.numpy().tolist(), batch.slots.numpy().tolist()) for batch in found]


@pytest.mark.tf
@pytest.mark.parametrize("layout", ["row", "block"])
def test_the_same_batches_as_from_a_disk(bucket, crafted, copies, layout):
    from trainer.dataset import open_verified, read_catalogue, read_held_out, record_spec

    local = crafted(layout=layout)
    dataset = open_verified(bucket.upload(local.root, "data"))
    assert batches(dataset) == batches(local)
    assert len(batches(dataset)) > 1
    spec = record_spec(dataset)
    assert read_catalogue(dataset, spec).key == read_catalogue(local, spec).key
    assert read_held_out(dataset, spec, "test").key == read_held_out(local, spec, "test").key
    assert dataset.vocabulary("item_id") == local.vocabulary("item_id")
    assert dataset.uri == f"{bucket.uri}/data"
    assert dataset.name == "data"
    assert {path.relative_to(dataset.root).as_posix() for path in copies()} == {
        file.path for file in local.manifest.stored_files()
    }


@pytest.mark.tf
def test_nothing_is_fetched_twice_unless_the_copy_has_changed(bucket, crafted, copies):
    from trainer.dataset import open_verified

    local = crafted(layout="row")
    uri = bucket.upload(local.root, "data")
    dataset = open_verified(uri)
    shard = dataset.manifest.splits["train"].shards[0]
    whole, before = bucket.read(f"data/{shard.path}"), copies()
    bucket.put(f"data/{shard.path}", b"changed since")
    open_verified(uri)
    assert copies() == before
    copy = dataset.root / shard.path
    copy.write_bytes(bytes(len(whole)))
    with pytest.raises(CorruptDataset, match=f"{uri}/{shard.path}: 13 bytes"):
        open_verified(uri)
    bucket.put(f"data/{shard.path}", whole)
    assert open_verified(uri).root == dataset.root
    assert copy.read_bytes() == whole
    assert copies().keys() == before.keys()


@pytest.mark.tf
def test_faults_are_named(bucket, crafted, copies, tmp_path, monkeypatch):
    from trainer.dataset import open_verified

    local = crafted(layout="row")
    uri = bucket.upload(local.root, "data")
    shard = local.manifest.splits["train"].shards[0]
    bucket.client.delete_object(Bucket=bucket.name, Key=f"data/{shard.path}")
    with pytest.raises(CorruptDataset, match=f"{uri}/{shard.path}: the manifest names this file, but"):
        open_verified(uri)
    bucket.upload(local.root, "data")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(EnvironmentProblem, match=r"writing .*; make room there, or choose another folder \(--cache\)"):
        open_verified(uri)


def test_the_copys_folder_is_an_option(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "elsewhere")
    arguments = ["evaluate", "--cache", str(tmp_path / "own"), "--model", "x", "--data", str(tmp_path)]
    assert "no dataset" in str(CliRunner().invoke(trainer.commands, arguments).exception)
    assert cache.folder() == tmp_path / "own"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv(cache.VARIABLE)
    assert cache.folder() == tmp_path / "xdg" / "prebatch"
