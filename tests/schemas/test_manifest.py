"""The manifest: what is written comes back; a dataset that differs from it is an error that names the file."""

import dataclasses
import json

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from schemas.errors import CorruptDataset, ProjectError
from schemas.files import local_path
from schemas.manifest import MANIFEST, STAGED, Dataset, Manifest, Shard, Split, StoredFile, escape, unescape
from schemas.record import Field, RecordSpec
from schemas.remote import RemoteFolder

RECORD = RecordSpec(
    user=(),
    item=(Field("item_id", "vocabulary", "item_id", size=3),),
    history=("item_id",),
    history_length=5,
    layout="row",
    clicks=1,
    negatives=2,
    per="click",
)


def stored(root, path, data):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return StoredFile(path, len(data), google_crc32c.value(data))


@pytest.fixture
def dataset(tmp_path):
    vocabulary = stored(tmp_path, "vocabulary/item_id.txt", "[OOV]\né\nb\n".encode())
    file = stored(tmp_path, "train/part-0.tfrecord", b"0123456789")
    shard = Shard(file.path, file.bytes, file.crc32c, 1, 1)
    manifest = Manifest(
        record=RECORD,
        splits={"train": Split.of([shard])},
        items=Split.of([]),
        vocabulary={"item_id": vocabulary},
        files={},
        config={"a": 1},
        seed=42,
        content_digest="d",
        time_unit="seconds",
        run="run-1",
    )
    (tmp_path / MANIFEST).write_text(json.dumps(manifest.to_json()))
    return Dataset(tmp_path, manifest)


def test_a_manifest_comes_back_equal(dataset):
    assert Dataset.open(dataset.root).manifest == dataset.manifest


def test_the_fingerprint_is_that_of_the_record_format_alone(dataset):
    manifest = dataset.manifest
    assert dataclasses.replace(manifest, seed=7).schema_fingerprint == manifest.schema_fingerprint
    other = dataclasses.replace(RECORD, negatives=3)
    assert dataclasses.replace(manifest, record=other).schema_fingerprint != manifest.schema_fingerprint


def test_datasets_that_use_nothing_new_keep_their_fingerprint(dataset):
    """A SHA-256 of before there were strategies that depend on the click."""
    assert dataset.manifest.schema_fingerprint == "a11a2d9a37ce2421d008cf8efafabcb5f0e0ab676186519e2a953517435baf43"
    own = dataclasses.replace(RECORD, log_q="candidate")
    assert RecordSpec.from_json(json.loads(json.dumps(own.to_json()))) == own
    assert dataclasses.replace(dataset.manifest, record=own).schema_fingerprint != dataset.manifest.schema_fingerprint


@pytest.mark.parametrize("damage", [b"012345678", b"0123456780", b"01234567890", None])
def test_a_shard_that_differs_is_named(dataset, damage):
    shard = dataset.manifest.splits["train"].shards[0]
    dataset.verify(shard)
    path = dataset.root / shard.path
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(CorruptDataset, match=r"part-0\.tfrecord"):
        dataset.verify(shard)


def test_a_vocabulary_is_read_by_index_and_checked(dataset):
    assert dataset.vocabulary("item_id") == ["[OOV]", "é", "b"]
    (dataset.root / "vocabulary/item_id.txt").write_text("[OOV]\nx\nb\n")
    with pytest.raises(CorruptDataset, match="item_id"):
        dataset.vocabulary("item_id")


def test_a_file_still_staged_is_the_one_that_counts(dataset):
    plain = dataset.root / "vocabulary/item_id.txt"
    staged = dataset.root / STAGED / "run-1" / "vocabulary/item_id.txt"
    staged.parent.mkdir(parents=True)
    plain.rename(staged)
    plain.write_text("of the dataset before\n")
    assert dataset.vocabulary("item_id")[1] == "é"


@pytest.mark.parametrize("path", ["../outside", "/etc/hosts", "train/../../x"])
def test_a_path_never_leaves_the_dataset(dataset, path):
    with pytest.raises(CorruptDataset, match="leaves the dataset"):
        dataset.verify(StoredFile(path, 1, 1))


def rewritten(dataset, change):
    """Writes the manifest anew, as whoever means harm would: with a right CRC-32C."""
    document = dataset.manifest.to_json()
    change(document)
    body = json.dumps(document, indent=1).removesuffix("\n}").encode()
    (dataset.root / MANIFEST).write_bytes(body + b',\n "crc32c": %d\n}\n' % google_crc32c.value(body))


ELSEWHERE = ["../outside", "/etc/hosts", "train/../../x", "a\\b", "a\0b", "", ".", "train//x", 7, None]


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("where", ["shard", "vocabulary", "run"])
def test_a_manifest_with_a_path_that_leads_elsewhere_is_not_opened(dataset, where, path):
    def change(document):
        if where == "run":
            document["run"] = path or "/"
        elif where == "shard":
            document["splits"]["train"]["shards"][0]["path"] = path
        else:
            document["vocabulary"]["item_id"]["path"] = path

    rewritten(dataset, lambda document: None)
    Dataset.open(dataset.root)
    rewritten(dataset, change)
    with pytest.raises(CorruptDataset, match=r"manifest\.json"):
        Dataset.open(dataset.root)


def test_a_run_is_one_name(dataset):
    """It stands for one folder below the staged ones, and those that clean go by it."""
    rewritten(dataset, lambda document: document.update(run="20260101T000000-abcdef/train"))
    with pytest.raises(CorruptDataset, match="20260101T000000-abcdef/train"):
        Dataset.open(dataset.root)


@pytest.mark.parametrize("path", ["../outside", "/etc/hosts", "train/../../x"])
def test_a_path_never_leaves_a_dataset_on_a_store(dataset, path):
    """Some stores take `..` for what it is on a disk."""
    (dataset.root.parent / "outside").write_bytes(b"x")
    store = RemoteFolder("hdfs://host/data", fs.LocalFileSystem(), str(dataset.root))
    there = Dataset(store, dataset.manifest)
    for ask in (there.location, there.opened, there.check):
        with pytest.raises(CorruptDataset, match=r"hdfs://host/data/manifest\.json.*leaves the dataset"):
            ask(StoredFile(path, 1, 1))


def test_a_link_out_of_the_dataset_is_not_followed(dataset, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text("x")
    (dataset.root / "link").symlink_to(outside)
    with pytest.raises(CorruptDataset, match="leaves the dataset"):
        dataset.path(StoredFile("link", 1, 1))


def test_a_manifest_nested_beyond_reason_is_refused(dataset):
    (dataset.root / MANIFEST).write_text('{"config": ' + "[" * 200_000)
    with pytest.raises(CorruptDataset, match=r"manifest\.json"):
        Dataset.open(dataset.root)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99},
        {"record": {}},
        {"splits": {"train": {}}},
        {"schema_fingerprint": "0"},
        {"surprise": 1},
        {"items": 3},
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(dataset, change):
    document = dataset.manifest.to_json() | change
    (dataset.root / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(CorruptDataset, match=r"manifest\.json"):
        Dataset.open(dataset.root)


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path):
    with pytest.raises(ProjectError, match="no dataset"):
        Dataset.open(tmp_path)


@given(st.text())
def test_vocabulary_values_fit_on_a_line(value):
    line = escape(value)
    assert "\n" not in line
    assert "\r" not in line
    assert unescape(line) == value


def test_uris_that_are_not_local_are_refused():
    assert str(local_path("file:///a/b")) == "/a/b"
    assert str(local_path("file:/a/b")) == "/a/b"
    with pytest.raises(ProjectError, match="s3://"):
        local_path("s3://bucket/x")
