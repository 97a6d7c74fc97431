"""Publishing on an object store: one conditional write commits, whoever loses leaves nothing, and cleaning knows whose
files are whose. moto is the store; ages are set by hand on the objects it keeps, or by the threshold.
"""

import dataclasses
import datetime as dt
import os
import threading
import time

import pytest

from pipelines import object_claim
from pipelines.config import Output
from pipelines.object_publication import ObjectPublication
from pipelines.outputs import publication
from pipelines.sink import ShardWriter
from schemas import remote, storage
from schemas.errors import ConfigurationError, CorruptDataset, EnvironmentProblem, OutputError, ProjectError
from schemas.manifest import Dataset, Split
from tests.pipelines.test_publication import write

OLD = "part-00000-of-00001-20260101T000000-aaaaaa-01234567.tfrecord"
YOUNG = "part-00000-of-00001-20260101T000000-bbbbbb-01234567.tfrecord"
DEAD = "20260101T000000-cccccc"


@pytest.fixture
def out(bucket):
    return f"{bucket.uri}/out"


@pytest.fixture
def hold(out, tmp_path):
    """A run's hold on the output, its work folder below tmp_path."""

    def held(overwrite=True, appending=False, abandoned_after=300.0):
        return ObjectPublication(remote.folder(out), overwrite, appending, abandoned_after, tmp_path)

    return held


def publish(hold, content, **options):
    with hold(**options) as held:
        return held.commit(write(held, content))


def fail(held):
    write(held, b"never")
    raise RuntimeError


def aged(bucket, key, seconds):
    """An object of another age, as moto's own memory has it."""
    from moto.s3.models import s3_backends

    stored = s3_backends["123456789012"]["aws"].buckets[bucket.name].keys[key]
    stored.last_modified = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(seconds=seconds)


def whole(dataset):
    """Whether every file is as the manifest says, read anew."""
    again = Dataset.open(dataset.uri)
    for file in again.manifest.stored_files():
        again.check(file)
    return again.manifest == dataset.manifest


def test_a_dataset_is_there_as_a_whole_and_nothing_else(bucket, hold, tmp_path):
    with hold() as held:
        manifest = write(held, b"first")
        assert held.work.is_dir()
        assert not storage.folder(str(held.folder)).exists("manifest.json")
        with pytest.raises(ProjectError, match="no dataset in s3://"):
            Dataset.open(str(held.folder))
        dataset = held.commit(manifest)
    assert whole(dataset)
    (shard,) = manifest.splits["train"].shards
    assert bucket.names() == sorted(["out/manifest.json", f"out/{shard.path}", "out/vocabulary/item_id.txt"])
    assert bucket.read("out/vocabulary/item_id.txt") == b"[OOV]\nfirst\n"
    assert Dataset.open(dataset.uri).vocabulary("item_id") == ["[OOV]", "first"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_together_from_pieces(bucket, hold, tmp_path):
    (tmp_path / "piece").write_bytes(b"some\nwords\n")
    with hold() as held:
        whole_file = held.stage("vocabulary/a.txt", b"[OOV]\nsome\nwords\nsome\nwords\n")
        found = held.stage_files("vocabulary/b.txt", b"[OOV]\n", [str(tmp_path / "piece")] * 2)
        assert (found.bytes, found.crc32c) == (whole_file.bytes, whole_file.crc32c)
        staged = f"out/_staged/{held.run}/vocabulary"
        assert bucket.read(f"{staged}/a.txt") == bucket.read(f"{staged}/b.txt")


def test_a_run_that_fails_leaves_what_was_there(bucket, hold):
    with pytest.raises(RuntimeError), hold() as held:
        fail(held)
    assert bucket.names() == []
    dataset = publish(hold, b"first")
    before = bucket.names()
    with pytest.raises(RuntimeError), hold() as held:
        fail(held)
    assert bucket.names() == before
    assert whole(dataset)


def test_a_shard_that_fails_midway_is_one_line_and_removed(bucket, out, monkeypatch):
    """Seven megabytes of it, more than a part of an upload, are there when the connection breaks."""
    writer = ShardWriter(out, "train", "00000-of-00001-20260101T000000-dddddd", "none")
    writer._append(b"x" * (7 << 20))
    assert bucket.uploads() == [f"out/{writer.path}"]

    def broken(*_):
        raise OSError("the connection is gone")

    monkeypatch.setattr(type(writer._file), "write", broken)
    with pytest.raises(EnvironmentProblem, match=r"writing s3://.*/train/part-.* failed: the connection is gone"):
        writer._append(b"more")
    writer.discard()
    assert (bucket.names(), bucket.uploads()) == ([], [])


def test_a_file_of_pieces_that_fails_midway_leaves_no_upload(bucket, hold, tmp_path):
    with hold() as held:
        with pytest.raises(EnvironmentProblem, match=r"writing s3://.*/vocabulary/a.txt failed"):
            held.stage_files("vocabulary/a.txt", b"x" * (7 << 20), [str(tmp_path / "missing")])
        assert ([key for key in bucket.names() if "a.txt" in key], bucket.uploads()) == ([], [])


def test_a_store_that_fails_while_a_run_tidies_up_does_not_hide_why_it_failed(hold, monkeypatch):
    def gone(*_):
        raise OSError("the connection is gone")

    with pytest.raises(RuntimeError), hold() as held:  # noqa: PT012
        monkeypatch.setattr(type(held._store), "delete", gone)
        fail(held)


def test_what_a_killed_upload_leaves_is_not_read_and_goes_when_old(bucket, out, hold):
    dataset = publish(hold, b"first")
    bucket.put(f"out/train/{OLD}", b"trunc")
    bucket.put(f"out/train/{YOUNG}", b"trunc")
    bucket.put("out/train/part-of-somebody-else.parquet", b"an input")
    bucket.put("out/vocabulary/notes.md", b"a person's")
    aged(bucket, f"out/train/{OLD}", 301)
    aged(bucket, "out/train/part-of-somebody-else.parquet", 10_000)
    assert whole(dataset)
    assert len(Dataset.open(out).manifest.splits["train"].shards) == 1
    publish(hold, b"second")
    keys = bucket.names()
    assert f"out/train/{OLD}" not in keys
    assert f"out/train/{YOUNG}" in keys
    assert {"out/train/part-of-somebody-else.parquet", "out/vocabulary/notes.md"} < set(keys)
    assert f"out/{dataset.manifest.splits['train'].shards[0].path}" not in keys  # replaced


def test_a_dataset_that_stands_is_not_replaced_without_being_told(bucket, out, hold):
    dataset = publish(hold, b"first")
    with pytest.raises(OutputError, match="holds a dataset already; replace it with --overwrite"):
        publish(hold, b"second", overwrite=False)
    with pytest.raises(OutputError, match="holds a dataset already"):
        publication(Output(path=out), False).check_free()
    assert whole(dataset)
    assert not any("_work" in key for key in bucket.names())
    second = publish(hold, b"second", overwrite=True)
    assert whole(second)
    assert bucket.read("out/vocabulary/item_id.txt") == b"[OOV]\nsecond\n"
    assert len([key for key in bucket.names() if "part-" in key]) == 1


@pytest.mark.parametrize("there", [False, True])
def test_of_two_runs_that_commit_at_once_one_publishes(bucket, hold, there):
    """Neither sees the other's sign, as if both had been asleep: the manifest alone decides."""
    if there:
        publish(hold, b"before")
    runs, outcomes = [hold(overwrite=there), hold(overwrite=there)], {}
    barrier = threading.Barrier(2)
    for run in runs:
        run.__enter__()
        bucket.client.delete_object(Bucket=bucket.name, Key=f"out/_work/{run.run}.alive")
        run._sign.check_held = lambda: None

    def commit(number):
        run = runs[number]
        manifest = write(run, b"of %d" % number)
        barrier.wait()
        try:
            outcomes[number] = run.commit(manifest)
        except OutputError as error:
            outcomes[number] = error
        run.__exit__(None, None, None)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [found for found in outcomes.values() if isinstance(found, Dataset)]
    (loser,) = [found for found in outcomes.values() if isinstance(found, OutputError)]
    assert loser.exit_code == 4
    assert "another run has published" in str(loser)
    assert whole(winner)
    (shard,) = winner.manifest.splits["train"].shards
    assert [key for key in bucket.names() if "part-" in key] == [f"out/{shard.path}"]


def test_a_run_that_lives_holds_the_output(bucket, hold):
    with hold() as first:
        manifest = write(first, b"first")
        with pytest.raises(OutputError, match=rf"run {first.run} on .* holds s3://.*; wait for it to end"), hold():
            pass
        assert f"out/_work/{first.run}.alive" in bucket.names()
        assert whole(first.commit(manifest))
    assert not any("_work" in key for key in bucket.names())


def test_of_two_that_arrive_at_once_the_later_gives_way(bucket, hold):
    """A sign that says `arrives` is of a run that has not looked yet: the earlier of the two stays."""
    bucket.put(f"out/_work/{DEAD}.alive", b"elsewhere boot\narrives")
    with pytest.raises(OutputError, match=DEAD), hold():
        pass
    later = "99991231T235959-ffffff"
    bucket.client.delete_object(Bucket=bucket.name, Key=f"out/_work/{DEAD}.alive")
    bucket.put(f"out/_work/{later}.alive", b"elsewhere boot\narrives")
    aged(bucket, f"out/_work/{later}.alive", -60)
    with hold() as held:
        assert whole(held.commit(write(held, b"first")))
    assert f"out/_work/{later}.alive" in bucket.names()


def test_files_of_a_live_run_stay_and_those_of_a_dead_one_go(bucket, hold):
    """A long run's first shards are older than the threshold; its sign of life is not."""
    alive = "99991231T235959-eeeeee"
    for run in (alive, DEAD):
        for key in (f"out/train/part-00000-of-00001-{run}-01234567.tfrecord", f"out/_staged/{run}/vocabulary/a.txt"):
            bucket.put(key, b"x")
            aged(bucket, key, 1000)
        bucket.put(f"out/_work/{run}.alive", b"elsewhere boot\narrives")
    aged(bucket, f"out/_work/{DEAD}.alive", 301)
    aged(bucket, f"out/_work/{alive}.alive", -60)
    publish(hold, b"first")
    keys = bucket.names()
    assert len([key for key in keys if alive in key]) == 3
    assert [key for key in keys if DEAD in key] == []


def test_the_last_cleaning_sees_the_store_anew(bucket, hold):
    """What has grown old while a run was at work goes, but for files of a run that has come meanwhile."""
    late = "99991231T235959-eeeeee"
    with hold() as held:
        manifest = write(held, b"first")
        for run in (late, DEAD):
            key = f"out/train/part-00000-of-00001-{run}-01234567.tfrecord"
            bucket.put(key, b"x")
            aged(bucket, key, 1000)
        bucket.put(f"out/_work/{late}.alive", b"elsewhere boot\nstays")
        held.commit(manifest)
    keys = bucket.names()
    assert len([key for key in keys if late in key]) == 2
    assert [key for key in keys if DEAD in key] == []


@pytest.mark.parametrize("hours", [-30, 30])
def test_ages_are_by_the_clock_of_the_store(bucket, hold, monkeypatch, hours):
    """A store whose day is another one than this machine's: what lives there lives, what is old there is old."""
    from moto.core.utils import utcnow

    monkeypatch.setattr("moto.s3.models.utcnow", lambda: utcnow() + dt.timedelta(hours=hours))
    bucket.put(f"out/train/{YOUNG}", b"x")
    bucket.put(f"out/train/{OLD}", b"x")
    aged(bucket, f"out/train/{OLD}", 301 - 3600 * hours)
    with hold() as held:
        with pytest.raises(OutputError, match=r"showed life \d s ago"), hold():
            pass
        held.commit(write(held, b"first"))
    assert f"out/train/{YOUNG}" in bucket.names()
    assert f"out/train/{OLD}" not in bucket.names()


def test_a_run_that_was_taken_for_dead_does_not_publish(bucket, hold):
    with pytest.raises(OutputError, match=r"took s3://.* over"), hold() as asleep:  # noqa: PT012
        manifest = write(asleep, b"asleep")
        aged(bucket, f"out/_work/{asleep.run}.alive", 301)
        second = publish(hold, b"second")
        asleep.commit(manifest)
    assert whole(second)
    assert not any(asleep.run in key for key in bucket.names())


def test_life_is_shown_again_and_again(bucket, hold, monkeypatch):
    monkeypatch.setattr(object_claim, "SIGN_SECONDS", 0.02)
    with hold() as held:
        key = f"out/_work/{held.run}.alive"
        aged(bucket, key, 250)
        os.utime(held.work, (0, 0))
        deadline = time.monotonic() + 20
        while held._store.modified(f"_work/{held.run}.alive") < time.time() - 100 or held.work.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
        assert held._sign._leaving.wait(20)  # and is not made anew once another run has taken it away
        with pytest.raises(OutputError, match="over"):
            held._sign.check_held()
    assert bucket.names() == []


def test_a_commit_that_was_cut_short_is_finished(bucket, out, hold, monkeypatch):
    def cut(*_):
        raise OSError("killed")

    monkeypatch.setattr(ObjectPublication, "_roll_forward_objects", cut)
    with pytest.raises(EnvironmentProblem), hold() as held:
        held.commit(write(held, b"first"))
    monkeypatch.setattr(ObjectPublication, "_roll_forward_objects", _FORWARD)
    assert "out/vocabulary/item_id.txt" not in bucket.names()
    dataset = Dataset.open(out)  # readers find the files where they wait
    assert dataset.vocabulary("item_id") == ["[OOV]", "first"]
    with pytest.raises(RuntimeError), hold():
        raise RuntimeError
    assert bucket.read("out/vocabulary/item_id.txt") == b"[OOV]\nfirst\n"
    assert whole(dataset)


_FORWARD = ObjectPublication._roll_forward_objects


def test_a_commit_of_which_nobody_knows_whether_it_came_through_keeps_its_files(bucket, out, hold, monkeypatch):
    with pytest.raises(EnvironmentProblem, match="no answer"), hold() as held:  # noqa: PT012
        manifest, write_if = write(held, b"first"), held._store.write_if

        def lost(*arguments):
            write_if(*arguments)
            raise OSError("no answer")

        monkeypatch.setattr(held._store, "write_if", lost)
        held.commit(manifest)
    dataset = Dataset.open(out)
    assert dataset.manifest == manifest
    assert whole(dataset)


def test_appending_needs_a_dataset_and_keeps_its_files(bucket, hold):
    with pytest.raises(ProjectError, match="no dataset in s3://"), hold(overwrite=False, appending=True):
        pass
    before = publish(hold, b"first").manifest.splits["train"].shards
    with hold(overwrite=False, appending=True) as held:
        manifest = write(held, b"second")
        both = Split.of([*before, *manifest.splits["train"].shards])
        assert whole(held.commit(dataclasses.replace(manifest, splits={"train": both})))


def test_a_shard_that_changed_is_named_by_its_uri(bucket, out, hold):
    dataset = publish(hold, b"first")
    (shard,) = dataset.manifest.splits["train"].shards
    data = bytearray(bucket.read(f"out/{shard.path}"))
    data[-5] ^= 1
    for damaged in (bytes(data), bytes(data[:-1]), None):
        if damaged is None:
            bucket.client.delete_object(Bucket=bucket.name, Key=f"out/{shard.path}")
        else:
            bucket.put(f"out/{shard.path}", damaged)
        with pytest.raises(CorruptDataset, match=f"{out}/{shard.path}: "):
            Dataset.open(out).check(shard)


def test_old_work_folders_go_and_young_ones_stay(bucket, hold, tmp_path):
    for name, age in (("prebatch-old", 301), ("prebatch-young", 200), ("of somebody else", 9999)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    publish(hold, b"first")
    assert {path.name for path in tmp_path.iterdir()} == {"prebatch-young", "of somebody else"}


def test_a_bucket_that_is_not_there_is_one_clear_error(bucket, tmp_path):
    output = Output(path="s3://b-nowhere/out", work=str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"writing s3://b-nowhere/out.* failed: .*(?i:bucket)"):  # noqa: SIM117
        with publication(output, False):
            pass


def test_work_is_for_stores_alone_and_on_a_disk(tmp_path):
    with pytest.raises(ValueError, match="work is for outputs on an object store"):
        Output(path=str(tmp_path / "out"), work=str(tmp_path))
    with pytest.raises(ValueError, match="a folder on a disk expected"):
        Output(path="s3://b/out", work="s3://b/work")
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        publication(Output(path="s3://me:hush@b/out"), False)
