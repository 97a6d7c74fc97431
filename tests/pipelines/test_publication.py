"""A dataset appears as a whole or not at all, and what a failed, killed or second run does to the one before it."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import google_crc32c
import pytest

from pipelines import claim
from pipelines.claim import machine
from pipelines.publication import Publication
from pipelines.sink import ShardWriter
from schemas import wire
from schemas.errors import CorruptDataset, EnvironmentProblem, OutputError
from schemas.manifest import STAGED, Dataset, Manifest, Shard, Split
from schemas.record import Field, RecordSpec

SPEC = RecordSpec(
    user=(), item=(Field("item_id", "vocabulary", "item_id", size=3),), history=(), history_length=1,
    layout="row", clicks=1, negatives=1, per="click",
)  # fmt: skip


def write(held, content):
    """A tiny dataset within a publication: one shard, one vocabulary; the manifest, not committed yet."""
    writer = ShardWriter(str(held.folder), "train", f"00000-of-00001-{held.run}", "none")
    import pyarrow as pa

    writer.write(wire.Pieces.of(pa.array([content], pa.large_binary())))
    writer.close()
    shard = Shard(writer.path, writer.bytes, writer.crc32c, 1, 1, 0)
    words = held.stage("vocabulary/item_id.txt", b"[OOV]\n" + content + b"\n")
    return Manifest(
        record=SPEC, splits={"train": Split.of([shard])}, items=Split.of([]), vocabulary={"item_id": words}, files={},
        config={}, seed=1, content_digest="", time_unit="seconds", run=held.run,
    )  # fmt: skip


def test_a_file_put_together_from_pieces_is_the_same_as_one_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.publication._AT_ONCE", 7)
    pieces = []
    for number, content in enumerate([b"", b"some\nwords\n", b"\xf0\x9f\x8e\xac" * 9]):
        pieces.append(str(tmp_path / f"{number}.txt"))
        (tmp_path / f"{number}.txt").write_bytes(content)
    with Publication(str(tmp_path / "out"), False) as held:
        whole = held.stage("vocabulary/a.txt", b"[OOV]\n" + b"some\nwords\n" + b"\xf0\x9f\x8e\xac" * 9)
        found = held.stage_files("vocabulary/b.txt", b"[OOV]\n", pieces)
        assert (found.bytes, found.crc32c) == (whole.bytes, whole.crc32c)
        staged = held.root / STAGED / held.run / "vocabulary"
        assert (staged / "a.txt").read_bytes() == (staged / "b.txt").read_bytes()


def publish(root, content, overwrite=True):
    with Publication(str(root), overwrite) as held:
        return held.commit(write(held, content))


def everything(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def aged(root, pattern, seconds=301):
    """As if files had been written so much earlier."""
    for path in root.glob(pattern):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def is_intact(root, content):
    """Whether the dataset there holds this content, and the folder nothing besides."""
    dataset = Dataset.open(root)
    stored = dataset.manifest.stored_files()
    for file in stored:
        dataset.verify(file)
    assert dataset.vocabulary("item_id") == ["[OOV]", content.decode()]
    return everything(root) == sorted(["manifest.json", *(file.path for file in stored)])


def test_a_new_dataset_replaces_the_old_one_and_leaves_nothing_of_it(tmp_path):
    publish(tmp_path, b"old")
    publish(tmp_path, b"new")
    assert is_intact(tmp_path, b"new")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, EnvironmentProblem])
def test_a_failed_run_leaves_the_dataset_before_it_and_no_file(tmp_path, error):
    publish(tmp_path, b"old")
    before = {path: (tmp_path / path).read_bytes() for path in everything(tmp_path)}
    with pytest.raises(error), Publication(str(tmp_path), True) as held:  # noqa: PT012
        write(held, b"new")
        (held.work / "catalogue.arrow").write_bytes(b"x")
        raise error("on the way")
    assert {path: (tmp_path / path).read_bytes() for path in everything(tmp_path)} == before
    assert is_intact(tmp_path, b"old")


def test_a_failed_first_run_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), Publication(str(tmp_path / "a" / "b"), False) as held:  # noqa: PT012
        write(held, b"new")
        raise RuntimeError
    assert not (tmp_path / "a" / "b").exists()


def test_an_existing_output_needs_overwrite(tmp_path):
    publish(tmp_path, b"old")
    with pytest.raises(OutputError, match=r"holds a dataset already.*--overwrite") as raised:
        publish(tmp_path, b"new", overwrite=False)
    assert raised.value.exit_code == 4
    assert is_intact(tmp_path, b"old")


def test_two_runs_at_once(tmp_path):
    with Publication(str(tmp_path), True) as held:
        manifest = write(held, b"first")
        with pytest.raises(OutputError, match="another run holds") as raised:
            publish(tmp_path, b"second")
        assert raised.value.exit_code == 4
        held.commit(manifest)
    assert is_intact(tmp_path, b"first")
    publish(tmp_path, b"second")


@pytest.mark.parametrize("stage", ["shards", "manifest", "orphans"])
def test_a_killed_run_is_cleaned_up_or_completed_by_the_next(tmp_path, stage):
    """SIGKILL while shards are written, right after the manifest's rename, and before the old shards are removed."""
    root = tmp_path / "out"
    publish(root, b"old")
    code = f"""
        import importlib.util, os, sys, time
        spec = importlib.util.spec_from_file_location("here", {__file__!r})
        here = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(here)
        from pipelines import publication

        def stop(*arguments):
            print("ready", flush=True)
            time.sleep(600)

        with publication.Publication({str(root)!r}, True) as held:
            manifest = here.write(held, b"new")
            (held.work / "catalogue.arrow").write_bytes(b"x")
            if {stage!r} == "shards":
                stop()
            if {stage!r} == "manifest":
                publication._roll_forward = stop
            else:
                publication.Publication._remove_orphans = stop
            held.commit(manifest)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout as said:
            assert said.readline() == "ready\n"
        with pytest.raises(OutputError, match="another run holds"):
            publish(root, b"third")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

    visible = b"old" if stage == "shards" else b"new"
    dataset = Dataset.open(root)
    assert dataset.vocabulary("item_id") == ["[OOV]", visible.decode()]
    assert [dataset.verify(file).exists() for file in dataset.manifest.stored_files()] == [True, True]
    if stage == "manifest":
        assert (root / STAGED / dataset.manifest.run / "vocabulary" / "item_id.txt").exists()
    aged(root, "train/part-*")
    # The next run cleans up before it begins; it fails, so what it found is what remains.
    with pytest.raises(RuntimeError), Publication(str(root), True):
        raise RuntimeError
    assert is_intact(root, visible)
    publish(root, b"third")
    assert is_intact(root, b"third")


def test_files_of_others_in_the_same_folder_are_left_alone(tmp_path):
    """A person may write into a folder that holds the input, or a dataset of another program."""
    strangers = ["items/part-00000-4f1c.snappy.parquet", "train/part-00001.tfrecord", "notes.txt"]
    for name in strangers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"precious")
    publish(tmp_path, b"old")
    publish(tmp_path, b"new")
    assert set(strangers) < set(everything(tmp_path))


ZOMBIE = "20200101T000000-abcdef"


@pytest.mark.parametrize("seconds", [299, 301])
def test_orphans_are_removed_once_they_are_old(tmp_path, seconds):
    """A young one may be of a run on another machine, whatever the clock there says."""
    publish(tmp_path, b"old")
    shard, work = f"train/part-00000-of-00001-{ZOMBIE}-01234567.tfrecord", f"_work/{ZOMBIE}"
    (tmp_path / shard).write_bytes(b"a late zombie wrote this")
    (tmp_path / work).mkdir(parents=True)
    for path in (shard, work):
        aged(tmp_path, path, seconds)
    publish(tmp_path, b"new")
    assert ((tmp_path / shard).exists(), (tmp_path / work).exists()) == (seconds < 300,) * 2
    (tmp_path / shard).unlink(missing_ok=True)
    assert is_intact(tmp_path, b"new")


def elsewhere(root, seconds, run=ZOMBIE):
    """A run on another machine that showed life so long ago, and a shard it writes."""
    sign, shard = root / "_work" / f"{run}.alive", root / "train" / f"part-00000-of-00001-{run}-01234567.tfrecord"
    for path, text in ((sign, "other-host boot-1"), (shard, "half")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        aged(root, path.relative_to(root).as_posix(), seconds)
    return sign, shard


def test_a_run_on_another_machine_is_known_by_its_sign_of_life(tmp_path):
    """The lock is free, as a shared file system may not pass it on."""
    publish(tmp_path, b"old")
    files = elsewhere(tmp_path, 250)
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=rf"run {ZOMBIE} on other-host holds .* 250 s ago.*abandoned_after") as raised:
        publish(tmp_path, b"new")
    assert raised.value.exit_code == 4
    assert everything(tmp_path) == before
    with pytest.raises(OutputError), Publication(str(tmp_path), True, abandoned_after=251):
        pass
    with pytest.raises(RuntimeError), Publication(str(tmp_path), True, abandoned_after=249):
        raise RuntimeError
    assert not any(path.exists() for path in files)
    assert is_intact(tmp_path, b"old")


def test_a_sign_of_life_of_this_machine_is_nothing_without_the_lock(tmp_path):
    """After kill -9 the next run here need not wait."""
    sign, shard = elsewhere(tmp_path, 0)
    sign.write_text(machine())
    publish(tmp_path, b"new")
    assert is_intact(tmp_path, b"new")
    assert not shard.exists()


def test_without_locks_a_sign_of_life_counts_on_this_machine_too(tmp_path, monkeypatch):
    def refuse(lock, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Publication(str(tmp_path), True) as held:
        manifest = write(held, b"first")
        with pytest.raises(OutputError, match=rf"run {held.run} on {platform.node()} holds"):
            publish(tmp_path, b"second")
        held.commit(manifest)
    assert is_intact(tmp_path, b"first")
    publish(tmp_path, b"third")
    assert is_intact(tmp_path, b"third")


def test_life_is_shown_while_a_run_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "SIGN_SECONDS", 0.02)
    with Publication(str(tmp_path), True) as held:
        sign = tmp_path / "_work" / f"{held.run}.alive"
        assert sign.read_text() == machine()
        aged(tmp_path, "_work/*.alive", 1000)
        begun, end = sign.stat().st_mtime, time.monotonic() + 20
        while sign.stat().st_mtime == begun:
            assert time.monotonic() < end, "no sign of life in 20 s"
            time.sleep(0.02)
        assert time.time() - sign.stat().st_mtime < 500
        held.commit(write(held, b"new"))
    assert not sign.exists()
    assert is_intact(tmp_path, b"new")


def test_a_run_that_was_taken_for_dead_does_not_publish(tmp_path):
    """It slept for longer than allowed, and another one cleaned up and wrote its own dataset."""
    publish(tmp_path, b"old")
    with (  # noqa: PT012
        pytest.raises(OutputError, match=r"took .* over") as raised,
        Publication(str(tmp_path), True) as held,
    ):
        manifest = write(held, b"sleeper")
        (tmp_path / "_work" / f"{held.run}.alive").unlink()
        held.commit(manifest)
    assert raised.value.exit_code == 4
    assert is_intact(tmp_path, b"old")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_is_ended_once_its_manifest_is_in_place_has_published(tmp_path, monkeypatch, error):
    """Between the rename and the next line a signal may come: the files that the manifest names must not go."""
    publish(tmp_path, b"old")

    def ended(folder):
        raise error

    with pytest.raises(error), Publication(str(tmp_path), True) as held:  # noqa: PT012
        manifest = write(held, b"new")
        monkeypatch.setattr("schemas.files.sync_folder", ended)
        held.commit(manifest)
    monkeypatch.undo()
    dataset = Dataset.open(tmp_path)
    assert dataset.vocabulary("item_id") == ["[OOV]", "new"]
    for file in dataset.manifest.stored_files():
        dataset.check(file)
    aged(tmp_path, "train/part-*")
    with pytest.raises(RuntimeError), Publication(str(tmp_path), True):
        raise RuntimeError
    assert is_intact(tmp_path, b"new")


def test_the_manifest_comes_after_all_that_it_names_is_on_the_disk(tmp_path, monkeypatch):
    """What fsync has not seen may be gone after a power cut: shards, staged files, and the folders with their names."""
    synced, at_rename = set(), {}
    fsync, replace = os.fsync, Path.replace

    def seen(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def renamed(path, target):
        if Path(target).name == "manifest.json":
            at_rename["synced"], at_rename["manifest"] = set(synced), path.stat().st_ino
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(Path, "replace", renamed)
    dataset = publish(tmp_path, b"new")
    shard = dataset.path(dataset.manifest.splits["train"].shards[0])
    words = dataset.path(dataset.manifest.vocabulary["item_id"])
    assert {path.stat().st_ino for path in (shard, shard.parent, words)} | {at_rename["manifest"]} <= at_rename[
        "synced"
    ]
    assert {path.stat().st_ino for path in (tmp_path, words.parent)} <= synced


@pytest.mark.parametrize("number", range(8))
def test_two_runs_that_start_together(tmp_path, number):
    """One of them writes, or one after the other; whichever is refused leaves nothing."""
    start, ended = threading.Barrier(2), {}

    def run(content):
        start.wait(20)
        try:
            publish(tmp_path, content)
            ended[content] = 0
        except OutputError as error:
            ended[content] = error.exit_code

    threads = [threading.Thread(target=run, args=(content,)) for content in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended.values()) in ([0, 0], [0, 4])
    winner = [content for content, code in ended.items() if code == 0]
    assert any(is_intact(tmp_path, content) for content in winner)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_output_that_cannot_be_written_is_said_in_one_line(tmp_path, below):
    """A file stands where the folder should be, which stops root as well."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match=r"writing .*file.* failed: .*change output.path") as raised:
        publish(tmp_path / "file" / below, b"x")
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_manifest_that_nobody_understands_is_replaced(tmp_path):
    publish(tmp_path, b"old")
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(CorruptDataset, match="format_version"):
        Dataset.open(tmp_path)
    publish(tmp_path, b"new")
    assert Dataset.open(tmp_path).vocabulary("item_id") == ["[OOV]", "new"]


def test_a_shard_that_differs_from_the_manifest_is_named(tmp_path):
    dataset = publish(tmp_path, b"some content")
    (shard,) = dataset.manifest.splits["train"].shards
    path = tmp_path / shard.path
    whole = path.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CorruptDataset, match=f"{path.name}.*CRC-32C"):
            dataset.verify(shard)
    for damaged, message in [(whole[:-1], "bytes expected"), (whole + b"x", "bytes expected"), (b"", "0 found")]:
        path.write_bytes(damaged)
        with pytest.raises(CorruptDataset, match=f"{path.name}.*{message}"):
            dataset.verify(shard)
    path.unlink()
    with pytest.raises(CorruptDataset, match=f"{path.name}.*cannot be read"):
        dataset.verify(shard)
    path.write_bytes(whole)
    assert dataset.verify(shard) == path
    assert google_crc32c.value(whole) == shard.crc32c


def test_a_lock_whose_maker_has_just_left_is_refused(tmp_path, monkeypatch):
    """Between opening the lock and holding it, the run that made it fails and removes it."""
    root = tmp_path / "out"
    original = fcntl.flock

    def late(lock, operation):
        (root / ".lock").unlink()
        original(lock, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(OutputError, match="start once more"):
        publish(root, b"x")


def test_the_lock_dies_with_its_holder(tmp_path):
    code = (
        f"import time; from pipelines.publication import Publication; Publication({str(tmp_path)!r}, True).__enter__()"
    )
    begun = time.monotonic()
    assert subprocess.run([sys.executable, "-c", f"{code}; import os; os._exit(1)"], check=False).returncode == 1
    publish(tmp_path, b"x")
    assert time.monotonic() - begun < 30
    assert os.listdir(tmp_path / "train") != []  # noqa: PTH208


def test_sigterm_ends_a_command_tidily(tmp_path):
    """A scheduler asks before it kills; then no other machine has to wait until the run counts as dead."""
    root = tmp_path / "out"
    code = f"""
        import importlib.util, time
        spec = importlib.util.spec_from_file_location("here", {__file__!r})
        here = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(here)
        from pipelines.commands import reporting_errors

        with reporting_errors(False), here.Publication({str(root)!r}, False) as held:
            here.write(held, b"new")
            print("ready", flush=True)
            try:
                time.sleep(600)
            except Exception:
                print("taken for a failure of its own")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert (root / "train").exists()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (143, "", "terminated; the output is as it was before\n")
    assert not root.exists()
