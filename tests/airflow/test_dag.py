"""The DAG as the real Airflow reads it: without errors, without work, with the tasks, retries and schedule meant."""

import importlib
import itertools
import json

import pytest

pytestmark = pytest.mark.airflow

ORDER = ("prebatch", "audit", "drift", "train", "evaluate", "evaluate_published", "embed", "index", "publish")
TRAINER = {"train", "evaluate", "evaluate_published", "index", "publish"}
VERDICTS = {"audit", "drift", "publish"}


@pytest.fixture(scope="module")
def dag(airflow):
    return airflow.described("dag")


def test_the_folder_parses_without_errors_and_at_once(dag):
    assert dag["errors"] == {}
    assert dag["dags"] == ["prebatch_daily"]
    assert dag["seconds"] < 10  # Airflow gives up after 30, of which its own imports take most


def test_parsing_starts_no_process_connects_to_nothing_and_writes_no_file(airflow):
    assert airflow.described("quiet") == []


def test_tasks_follow_one_another(dag):
    assert tuple(dag["tasks"]) == ORDER
    for before, after in itertools.pairwise(ORDER):
        assert dag["tasks"][after]["after"] == [before]
    assert dag["tasks"]["prebatch"]["after"] == []


def test_verdicts_are_not_asked_for_again_and_all_else_is_at_growing_distances(dag):
    for name, task in dag["tasks"].items():
        assert (task["retries"] == 0) == (name in VERDICTS), name
        assert task["backoff"] > 1, name


def test_what_a_task_wrote_before_is_replaced_when_it_runs_again(dag):
    """Commands that keep what is there, unless they are told not to, are told."""
    told = set()
    for name, task in dag["tasks"].items():
        module = importlib.import_module(f"{task['command'][0]}.__main__" if name in TRAINER else task["command"][0])
        command = module.commands.commands[task["command"][1]] if name in TRAINER else module.main
        if any("--overwrite" in option.opts for option in command.params):
            assert "--overwrite" in task["command"], name
            told.add(name)
    assert told == {"prebatch", "embed"}


def test_a_run_is_called_by_the_day_that_it_makes(airflow, dag):
    assert dag["schedule"] == ["CronDataIntervalTimetable", "0 2 * * *"]
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False


def test_downstream_is_told_of_what_was_published_alone(dag):
    outlets = {name: task["outlets"] for name, task in dag["tasks"].items() if task["outlets"]}
    assert outlets == {"publish": ["prebatch_published_model"]}


def test_exit_codes_that_trying_again_does_not_change_fail_at_once(airflow, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nexit "$2"\n', encoding="utf-8")
    python.chmod(0o755)
    told = airflow.described("codes", python)
    assert told["0"] is None
    for code in ("2", "3"):
        assert told[code][0] == "AirflowFailException"
    for code in ("1", "4", "143"):
        assert told[code][0] == "AirflowException"


def test_a_backfill_makes_each_of_its_days_once(airflow):
    assert airflow("dags", "reserialize", seconds=300).returncode == 0
    run = airflow(
        "backfill", "create", "--dag-id", "prebatch_daily", "--from-date", "2026-11-01", "--to-date",
        "2026-11-03T23:59", "--reprocess-behavior", "completed", "--max-active-runs", "1", "--dry-run", seconds=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    days = [line for line in run.stdout.splitlines() if "2026-11-0" in line and "date =" not in line]
    assert [day[day.index("2026") :][:10] for day in days] == ["2026-11-01", "2026-11-02", "2026-11-03"]


def test_a_downstream_dag_can_wait_for_the_asset(airflow):
    assert airflow("dags", "reserialize", seconds=300).returncode == 0
    listed = airflow("assets", "list", "--output", "json", seconds=120)
    assert [asset["name"] for asset in json.loads(listed.stdout[listed.stdout.index("[{") :])] == [
        "prebatch_published_model"
    ]


@pytest.fixture
def lived(airflow, tmp_path):
    """Makes folders of days and versions, and says what a date starts from and whether it may serve."""

    def asked(date, models, versions, current):
        for folder, texts in (("models", models), ("published", versions)):
            for name, text in texts.items():
                (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name / "metrics.json").write_text(text, encoding="utf-8")
        if current:
            (tmp_path / "published" / "current").unlink(missing_ok=True)
            (tmp_path / "published" / "current").symlink_to(current)
        variables = {f"prebatch_{name}": tmp_path / name for name in ("models", "published")}
        earlier, may, serving = airflow.described("day", date, variables=variables)
        assert serving == (f"{tmp_path}/published/current" if current else "")
        return earlier, may == "yes"

    return asked


DAYS = {"dt=2026-11-01": "one", "dt=2026-11-02": "two", "dt=2026-11-03": "three", "dt=2026-11-04": "refused"}


@pytest.mark.parametrize(
    ("date", "versions", "current", "expected"),
    [
        ("2026-11-05", {}, None, ("", True)),
        ("2026-11-05", {"1": "one", "2": "two", "3": "three"}, "3", ("dt=2026-11-03", True)),
        # Rolled back: on from what serves, not from what was taken back.
        ("2026-11-05", {"1": "one", "2": "two", "3": "three"}, "2", ("dt=2026-11-02", True)),
        # A day made late: from one before it, and a later one goes on serving.
        ("2026-11-02", {"1": "one", "2": "two", "3": "three"}, "3", ("dt=2026-11-01", False)),
        ("2026-11-01", {"1": "one", "2": "two", "3": "three"}, "3", ("", False)),
        # The day that serves, once more.
        ("2026-11-03", {"1": "one", "2": "two", "3": "three"}, "3", ("dt=2026-11-02", True)),
        # What serves comes from elsewhere, or its day was made anew since.
        ("2026-11-05", {"1": "one", "4": "foreign"}, "4", ("dt=2026-11-01", True)),
    ],
)
def test_a_day_starts_from_the_latest_that_was_accepted_before_it(lived, date, versions, current, expected):
    assert lived(date, DAYS, versions, current) == expected
