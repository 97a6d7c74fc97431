"""`python -m pipelines.inspect`: what it prints, what it refuses, and that its name hides nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.inspect import main

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("kind", ["row", "block", "pool", "sequence"])
def test_manifest_and_records_are_shown(small_dataset, kind):
    result = run(small_dataset(kind).root, "--records", 2, "--verify")
    assert result.exit_code == 0, result.output
    assert "clicks                   8             4           4" in result.output
    assert "3 rows of clicks rejected: unknown_item" in result.output
    assert "as declared" in result.output
    assert "item.genres.lengths" in result.output
    assert "positive" in result.output
    assert "Amélie" in result.output
    assert "verified" in result.output


def test_a_sequence_is_told_in_its_own_words(small_dataset):
    told = run(small_dataset("sequence").root, "--records", 1).output
    shapes = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith(("  ", "dataset"))}
    assert shapes["sequence.item"] == ["int64", "values", "of", "sequence.lengths"]
    assert shapes["sequence.lengths"] == ["int64", "one", "a", "window"]
    assert shapes["user.age"] == ["int64", "one", "a", "window"]
    assert shapes["click.time"] == ["int64", "one", "a", "click"]
    assert shapes["block.hit_length"] == ["int64", "one", "a", "run", "of", "accidental", "hits"]
    plain = " ".join(told.split())
    assert "a pool of 3 different items shared by the clicks of a sequence" in plain
    assert "users' clicks in order, up to 4 a record in windows of up to 2" in plain


def test_a_block_is_told_in_its_own_words(small_dataset):
    told = run(small_dataset("pool").root, "--records", 0).output
    shapes = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith("  ")}
    assert shapes["block.history"] == ["int64", "values", "of", "history.lengths"]
    assert shapes["history.lengths"] == ["int64", "one", "a", "click"]
    assert shapes["history.index"] == ["int64", "one", "an", "item", "of", "the", "record's", "histories"]
    assert shapes["item.log_q"] == ["float32", "one", "an", "item", "of", "the", "record"]
    assert shapes["block.hit_click"] == ["int64", "one", "an", "accidental", "hit"]
    assert "a pool of 3 shared by the clicks of a block" in " ".join(told.split())


def test_terminal_gets_no_control_characters_from_titles(small_dataset):
    result = run(small_dataset("row").root, "--records", 3)
    assert "Esc�[2J�ape" in result.output
    assert "\x1b" not in result.output


def test_records_of_other_splits(small_dataset):
    root = small_dataset("block").root
    assert "3 items when ranking" in run(root, "--split", "test").output
    assert "item 0: Amélie (key i1), 9 training clicks" in run(root, "--split", "items").output
    assert "Amélie" not in run(root, "--records", 0).output
    empty = run(root, "--split", "validation")
    assert empty.exit_code == 2
    assert "no validation records" in empty.output


def test_an_altered_byte_makes_verify_fail_and_names_the_shard(small_dataset):
    root = small_dataset("row").root
    shard = root / "train" / "part-2.tfrecord"
    data = bytearray(shard.read_bytes())
    data[40] ^= 4
    shard.write_bytes(data)
    (root / "vocabulary" / "genres.txt").unlink()
    assert run(root, "--records", 0).exit_code == 0
    result = run(root, "--records", 0, "--verify")
    assert result.exit_code == 1
    assert "train/part-2.tfrecord" in result.output
    assert "vocabulary/genres.txt" in result.output
    assert "train/part-1.tfrecord" not in result.output


def test_what_it_reads_is_verified_without_being_asked(small_dataset):
    root = small_dataset("row").root
    shard = root / "train" / "part-0.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    result = run(root)
    assert result.exit_code == 1
    assert "train/part-0.tfrecord" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("break_it", ["absent", "not json", "wrong version", "no record", "a list"])
def test_no_dataset_or_a_broken_manifest_is_one_clear_line(small_dataset, break_it):
    root = small_dataset("row").root
    path = root / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["crc32c"]
    if break_it == "absent":
        path.unlink()
    elif break_it == "not json":
        path.write_text("{", encoding="utf-8")
    elif break_it == "wrong version":
        path.write_text(json.dumps({**document, "format_version": 99}), encoding="utf-8")
    elif break_it == "no record":
        path.write_text(json.dumps({k: v for k, v in document.items() if k != "record"}), encoding="utf-8")
    else:
        path.write_text("[]", encoding="utf-8")
    result = run(root)
    assert result.exit_code == 1
    assert len(result.output.strip().split("\n")) == 1
    assert str(root) in result.output


def test_runs_as_a_module_without_spark_or_tensorflow(small_dataset):
    root = small_dataset("pool").root
    forbid = (
        "import sys, runpy\n"
        "class Forbidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('pyspark', 'tensorflow', 'pandas'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Forbidden())\n"
        f"sys.argv = ['inspect', {str(root)!r}]\n"
        "runpy.run_module('pipelines.inspect', run_name='__main__', alter_sys=True)\n"
    )
    ended = process("-c", forbid)
    assert ended.returncode == 0, ended.stderr
    assert process("-m", "pipelines.inspect", str(root)).stdout == ended.stdout


def test_a_reader_that_leaves_early_is_no_error(small_dataset):
    command = f"{sys.executable} -m pipelines.inspect {small_dataset('row').root} --records 3 | head -n 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    assert ended.stdout.startswith("dataset")


def test_name_hides_nothing_where_a_job_is_started_by_its_file():
    ended = process("pipelines/prebatch.py", "--help", env={**os.environ, "PYTHONPATH": ""})
    assert ended.returncode == 0, ended.stderr
    assert "--dry-run" in ended.stdout
