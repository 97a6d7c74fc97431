"""The real Airflow, from build/airflow, in a folder that is thrown away: SQLite, our DAG and nothing else."""

import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "airflow" / "bin" / "python"
DAGS = ROOT / "docker" / "airflow" / "dags"
DAY_SECONDS = 1200  # nine commands, each of which starts Spark, Beam or TensorFlow: 2 to 4 minutes


class Airflow:
    """Calls `airflow`, and reads from its database what became of runs."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment |= {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def __call__(self, *arguments, seconds=300, variables=None):
        return subprocess.run(
            [PYTHON, "-m", "airflow", *map(str, arguments)],
            env=self._environment(variables), cwd=self.folder, timeout=seconds, check=False,
            capture_output=True, text=True,
        )  # fmt: skip

    def described(self, *arguments, variables=None):
        """What described.py says, which runs in Airflow's Python."""
        run = subprocess.run(
            [PYTHON, Path(__file__).with_name("described.py"), *map(str, arguments)],
            env=self._environment(variables), cwd=self.folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        return json.loads(run.stdout.splitlines()[-1])

    def _environment(self, variables):
        return self.environment | {f"AIRFLOW_VAR_{k.upper()}": str(v) for k, v in (variables or {}).items()}

    def asset_events(self):
        """How often a DAG that waits for the published model would have been started."""
        with sqlite3.connect(self.folder / "airflow.db") as database:
            return database.execute(
                "select count(*) from asset_event e join asset a on a.id = e.asset_id where a.name = ?",
                ("prebatch_published_model",),
            ).fetchone()[0]

    def day(self, date, variables):
        """(whether the run of a day succeeded, states by task, all that was said)."""
        log = self.folder / f"{date}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [PYTHON, "-m", "airflow", "dags", "test", "prebatch_daily", date],
                env=self._environment(variables), cwd=self.folder, stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
            end = time.monotonic() + DAY_SECONDS
            while process.poll() is None and time.monotonic() < end and not waits(log):
                time.sleep(1)
            process.terminate()
        code, said = process.wait(60), log.read_text(encoding="utf-8", errors="replace")
        assert not waits(log), said[-8000:]
        runs = [
            found for found in rows(self("dags", "list-runs", "prebatch_daily", "--output", "json"))
            if found["logical_date"].startswith(date)
        ]  # fmt: skip
        assert len(runs) == 1, said[-8000:]
        states = self("tasks", "states-for-dag-run", "prebatch_daily", runs[0]["run_id"], "--output", "json")
        assert (code == 0) == (runs[0]["state"] == "success"), said[-8000:]
        return code == 0, {found["task_id"]: found["state"] for found in rows(states)}, said


def waits(log):
    """Whether a task is to be tried again in some minutes, which no day here is about; Airflow says so each second."""
    return log.read_text(encoding="utf-8", errors="replace").count("No tasks to run.") > 20


def rows(run):
    """What --output json says, after whatever else Airflow has to say."""
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout[run.stdout.index("[{") :])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    assert PYTHON.is_file(), "Airflow is not installed in build/airflow: run make test-airflow"
    found = Airflow(tmp_path_factory.mktemp("airflow"))
    run = found("db", "migrate", seconds=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return found
