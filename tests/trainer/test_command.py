"""The command line: one readable line and the right exit code, TensorFlow left alone where the arguments are wrong."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def trainer(*arguments):
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train"], "Missing option '--data'"),
        (["train", "--data", "d", "--output", "o", "--set", "epoch=3"], "did you mean 'epochs'?"),
        (["train", "--data", "d", "--output", "o", "--set", "loss.correction=half"], "loss.correction"),
        (["train", "--data", "d", "--output", "o", "--config", "missing.yaml"], "missing.yaml cannot be read"),
        (["quality", "--data", "d", "--output", "o", "--seeds", "0"], "--seeds"),
        (["embed-clicks", "--model", "m", "--data", "d", "--output", "o"], "Missing option '--queries'"),
        (["launch"], "No such command 'launch'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_exit_with_2_before_tensorflow_starts(arguments, told):
    done = trainer(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "starting TensorFlow" not in done.stdout


@pytest.mark.parametrize("options", [["--log", "json"], ["--log=json", "--data", "nowhere", "--output", "o"]])
def test_an_error_is_one_event_where_events_are_asked_for(options):
    done = trainer("train", *options)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("{")]
    event = json.loads(line)
    assert (event["event"], event["level"], event["exit_code"]) == ("error", "error", done.returncode)
    assert done.returncode in (1, 2)


def test_every_problem_is_told_at_once():
    done = trainer("train", "--data", "d", "--output", "o", "--set", "epochs=0", "--set", "model.dimension=-1")
    assert "epochs" in done.stderr
    assert "model.dimension" in done.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "quality"])
def test_no_dataset_is_one_line(tmp_path, command):
    options = ["--model" if command == "evaluate" else "--output", tmp_path / "model"]
    done = trainer(command, "--data", tmp_path, *options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"no dataset in {tmp_path}" in line
    assert "starting TensorFlow" not in done.stdout
    assert "Traceback" in trainer(command, "--data", tmp_path, *options, "--debug").stderr


@pytest.mark.tf
def test_a_folder_that_another_run_holds_exits_with_4(tmp_path, crafted):
    with (tmp_path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = trainer("train", "--data", crafted(layout="block").root, "--output", tmp_path)
    assert done.returncode == 4
    assert "another run holds it" in done.stderr


CONFIGURATIONS = [path for path in (ROOT / "trainer" / "examples").glob("*.yaml") if "compare-" not in path.name]


@pytest.mark.parametrize("example", sorted(CONFIGURATIONS), ids=lambda path: path.stem)
def test_examples_are_valid(example):
    from schemas import configuration
    from trainer.config import Configuration

    config = configuration.load(Configuration, example)
    assert config.evaluation.exclude_history == (example.stem != "complete-journey")
