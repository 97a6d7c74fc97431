"""Who may import whom: the contracts hold, they bite when broken, and an executor really needs no heavy library."""

import ast
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "samplers", "pipelines", "trainer")


def linted(folder):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_contracts_hold():
    run = linted(ROOT)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        ("schemas", "pyspark.sql"),
        ("schemas", "samplers"),
        ("samplers", "pyarrow"),
        ("samplers", "schemas"),
        ("pipelines", "tensorflow"),
        ("pipelines", "trainer"),
        ("trainer", "pipelines"),
        ("trainer", "pyspark"),
    ],
)
def test_contracts_bite(tmp_path, room, imported):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ROOMS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / name / "__init__.py").touch()
    # Inside a function, where no import at the top of a file would show it.
    (tmp_path / room / "intruder.py").write_text(f"def act() -> None:\n    import {imported}\n")
    run = linted(tmp_path)
    assert run.returncode == 1, run.stdout
    assert f"{room}.intruder" in run.stdout


def test_samplers_import_numpy_and_the_standard_library_alone():
    found = set()
    for path in (ROOT / "samplers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    assert found - set(sys.stdlib_module_names) <= {"numpy", "samplers"}


@pytest.mark.parametrize(
    ("room", "absent"),
    [
        ("schemas", ["tensorflow", "keras", "tensorflow_metadata", "pyspark", "apache_beam", "pandas"]),
        ("samplers", ["tensorflow", "keras", "pyspark", "apache_beam", "pandas", "pyarrow", "pydantic", "yaml"]),
        ("pipelines", ["tensorflow", "keras", "apache_beam", "trainer"]),
        pytest.param("trainer", ["pyspark", "apache_beam", "pipelines", "samplers"], marks=pytest.mark.tf),
    ],
)
def test_every_module_imports_without_what_its_machine_lacks(room, absent):
    code = f"""
        import importlib, pkgutil, sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {absent!r}:
                    raise ModuleNotFoundError(f"{{name}} is not on this machine", name=name)

        sys.meta_path.insert(0, Absent())
        room = importlib.import_module({room!r})
        for module in pkgutil.walk_packages(room.__path__, {room + "."!r}):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    """
    command = [sys.executable, "-W", "error::ImportWarning", "-c", textwrap.dedent(code)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_task_imports_nothing_that_only_the_driver_needs():
    """Each Python worker imports what its task names; half a second of pydantic in each would be half a second lost."""
    tasks = ["blocks", "encoding", "given", "negatives", "records", "rejects", "sink"]
    heavy = ["pydantic", "yaml", "click", "pandas", "pipelines.config", "pipelines.input_config", "pipelines.inputs"]
    code = f"import sys; from pipelines import {', '.join(tasks)}; print(sorted(set(sys.modules) & set({heavy!r})))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_shadows_a_standard_module_where_spark_submit_would_find_it(room):
    """spark-submit puts the entry file's folder first on sys.path: pipelines/queue.py would be `import queue`."""
    names = {path.stem for path in (ROOT / room).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    # `python -m pipelines.inspect` is a name that people use, so prebatch.py takes its own folder off the path.
    allowed = {"__init__", "__main__", "inspect"}
    assert (names - allowed) & set(sys.stdlib_module_names) == set()


def test_entry_file_runs_as_spark_submit_runs_it(tmp_path):
    entry = ROOT / "pipelines" / "prebatch.py"
    code = f"""
        import runpy, sys
        sys.path.insert(0, {str(entry.parent)!r})
        sys.argv = [{str(entry)!r}, "--help"]
        try:
            runpy.run_path({str(entry)!r}, run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
        import inspect
        assert hasattr(inspect, "signature"), inspect.__file__
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--config" in run.stdout
