"""daily.sh with a stand-in for Python that says what it is asked for: which commands, in which order, who stops it."""

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *"$FAILS"*) exit "$CODE" ;; esac
"""
MODULES = [
    "pipelines.prebatch", "pipelines.audit", "trainer train", "trainer evaluate", "pipelines.embed", "trainer index",
    "trainer publish",
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def environment(place, fails="nothing", code=0):
    names = {name: str(place / name.lower()) for name in ("CONFIG", "DATASETS", "MODELS", "PUBLISHED")}
    return os.environ | names | {
        "PYTHON": str(place / "python"), "CALLS": str(place / "calls"), "FAILS": fails, "CODE": str(code),
        "TRAIN_OPTIONS": "--set epochs=1", "PUBLISH_OPTIONS": "",
    }  # fmt: skip


def daily(place, **options):
    command = [str(ROOT / "docker" / "daily.sh"), "1998-03-01"]
    run = subprocess.run(command, env=environment(place, **options), cwd=ROOT, capture_output=True, check=False)
    return run.returncode, (place / "calls").read_text(encoding="utf-8").splitlines()


def test_the_first_day_is_compared_with_nothing_and_starts_from_nothing(place):
    code, calls = daily(place)
    assert code == 0
    assert [call.startswith(f"-m {module} ") for call, module in zip(calls, MODULES, strict=True)] == [True] * 7
    model = f"{place}/models/dt=1998-03-01"
    assert (
        calls[0]
        == f"-m pipelines.prebatch --config {place}/config --output {place}/datasets --date 1998-03-01 --overwrite"
    )
    assert calls[2] == f"-m trainer train --data {place}/datasets/dt=1998-03-01 --output {model} --set epochs=1"
    assert calls[4].endswith(f" --output {model}/embeddings --overwrite")  # a day may be made again
    assert calls[-1] == f"-m trainer publish --model {model} --to {place}/published"


def test_later_days_are_compared_with_what_serves_and_start_from_it(place):
    (place / "published" / "1").mkdir(parents=True)
    (place / "published" / "current").symlink_to("1")
    before = place / "datasets" / "dt=1998-02-28"
    before.mkdir(parents=True)
    (before / "manifest.json").touch()
    code, calls = daily(place)
    assert code == 0
    assert calls[2] == f"-m pipelines.inspect {before} {place}/datasets/dt=1998-03-01"
    assert calls[3].endswith(f"--set epochs=1 --warm-start {place}/published/current")
    baseline = f"{place}/models/baseline/dt=1998-03-01"
    asked = f"--model {place}/published/current --data {place}/datasets/dt=1998-03-01 --output {baseline}"
    assert calls[5] == f"-m trainer evaluate {asked}"
    assert calls[-1].endswith(f"--baseline {baseline}/metrics.json")


@pytest.mark.parametrize("place_in_order", range(len(MODULES)))
def test_nothing_follows_what_fails_and_its_exit_code_comes_out(place, place_in_order):
    code, calls = daily(place, fails=MODULES[place_in_order], code=3)
    assert code == 3
    assert len(calls) == place_in_order + 1


def test_the_cron_line_leaves_while_another_run_is_at_work(place):
    readme = (ROOT / "docker/README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    0 2 \* \* \*  (.+)$", readme, re.MULTILINE)
    lock, log = place / "lock", place / "log"
    command = line.replace(r"\%", "%").replace("/srv/prebatch", str(ROOT))
    command = command.replace("/run/lock/prebatch-daily", str(lock)).replace("/var/log/prebatch.log", str(log))
    assert str(lock) in command
    assert str(log) in command

    def started():
        return subprocess.run(
            ["sh", "-c", command], env=environment(place, "audit", 3), timeout=60, check=False
        ).returncode

    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert started() == 75
        assert not (place / "calls").exists()
    assert started() == 3
    yesterday = subprocess.run(
        ["date", "-u", "-d", "yesterday", "+%F"], capture_output=True, text=True, check=True
    ).stdout
    assert f"--date {yesterday.strip()} " in (place / "calls").read_text(encoding="utf-8")
