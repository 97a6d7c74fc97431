"""Which shards are read, in which order, and what happens when they are not what the manifest says."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from schemas.errors import CorruptDataset, ProjectError
from schemas.manifest import Dataset

pytestmark = pytest.mark.tf


@pytest.fixture
def copied(crafted, tmp_path):
    """A dataset that a test may damage."""
    return Dataset.open(shutil.copytree(crafted(layout="row").root, tmp_path / "copy"))


def order_of(dataset, epoch, seed):
    from trainer.dataset import record_spec, train_batches

    found = []
    for batch in train_batches(dataset, record_spec(dataset), epoch, seed, 16, 1000):
        users, positives = batch.queries.user["user_id"].numpy(), batch.items.index.numpy()[batch.slots.numpy()[:, 0]]
        real = batch.weight.numpy() > 0
        found += list(zip(users[real].tolist(), positives[real].tolist(), strict=True))
    return found


@pytest.mark.parametrize("layout", ["row", "block"])
def test_seed_and_epoch_decide_the_order(crafted, layout):
    dataset = crafted(layout=layout)
    first = order_of(dataset, 0, seed=1)
    assert order_of(dataset, 0, seed=1) == first
    assert order_of(dataset, 0, seed=2) != first
    assert order_of(dataset, 2, seed=1) != first  # the same negatives as epoch 0, in another order
    assert sorted(order_of(dataset, 2, seed=1)) == sorted(first)


def test_steps_are_counted_before_reading(crafted):
    from trainer.dataset import record_spec, steps_in_epoch, train_batches

    for layout in ("row", "block"):
        dataset = crafted(layout=layout)
        for clicks in (16, 50):
            read = len(list(train_batches(dataset, record_spec(dataset), 1, 1, clicks, 100)))
            assert steps_in_epoch(dataset, 1, clicks) == read


def test_files_that_the_manifest_does_not_name_do_not_exist(copied):
    from trainer.dataset import open_verified

    before = order_of(copied, 0, 1)
    (copied.root / "train" / "part-9-9.tfrecord").write_bytes(b"from a run that was killed")
    assert order_of(open_verified(str(copied.root)), 0, 1) == before


@pytest.mark.parametrize("split", ["train", "test", "items"])
def test_a_changed_shard_is_an_error_that_names_it(copied, split):
    from trainer.dataset import open_verified

    open_verified(str(copied.root))
    manifest = copied.manifest
    shard = (manifest.items if split == "items" else manifest.splits[split]).shards[-1]
    path = copied.path(shard)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataset, match=shard.path):
        open_verified(str(copied.root))
    path.write_bytes(data[:-1])
    with pytest.raises(CorruptDataset, match=shard.path):
        open_verified(str(copied.root))
    path.unlink()
    with pytest.raises(CorruptDataset, match=shard.path):
        open_verified(str(copied.root))


def test_no_changed_byte_is_trained_on(copied):
    """Some of all bytes that the trainer reads, each changed alone; tests/pipelines/test_corruption.py has them all."""
    from trainer.dataset import open_verified

    manifest, rng = copied.manifest, np.random.default_rng(8)
    shards = [shard for split in (*manifest.splits.values(), manifest.items) for shard in split.shards]
    for file in (*shards, *manifest.vocabulary.values()):
        path = copied.root / file.path
        whole = path.read_bytes()
        for position in rng.integers(0, len(whole), 20):
            changed = bytearray(whole)
            changed[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            with pytest.raises(CorruptDataset, match=path.name):
                open_verified(str(copied.root))
        path.write_bytes(whole)
    path = copied.root / "manifest.json"
    whole = manifest.serialized()
    path.write_bytes(whole)
    assert open_verified(str(copied.root)).manifest == manifest
    assert b'"seed": 1,' in whole
    path.write_bytes(whole.replace(b'"seed": 1,', b'"seed": 3,'))
    with pytest.raises(CorruptDataset, match=r"manifest\.json"):
        open_verified(str(copied.root))


def test_no_dataset(tmp_path):
    from trainer.dataset import open_verified

    with pytest.raises(ProjectError, match=r"no manifest\.json"):
        open_verified(str(tmp_path))


def test_a_catalogue_with_gaps_is_refused(copied):
    from trainer.dataset import read_catalogue, record_spec

    document = json.loads((copied.root / "manifest.json").read_text())
    document["items"]["records"] += 1
    (copied.root / "manifest.json").write_text(json.dumps(document))
    dataset = Dataset.open(copied.root)
    with pytest.raises(CorruptDataset, match=r"item\.index 0 to 40 expected"):
        read_catalogue(dataset, record_spec(dataset))


def test_an_unknown_layout_is_refused(crafted):
    from trainer.dataset import record_spec

    dataset = crafted()
    spec = dataclasses.replace(dataset.manifest.record, layout="column")
    other = Dataset(dataset.root, dataclasses.replace(dataset.manifest, record=spec))
    with pytest.raises(ProjectError, match="row, block or sequence expected, 'column' found"):
        record_spec(other)
