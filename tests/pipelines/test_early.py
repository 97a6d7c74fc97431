"""What happens before anything is loaded: where PySpark comes from, and what its start is not slowed down by."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pyspark
import pytest

from pipelines import early

ROOT, INSTALLED = Path(__file__).parents[2], Path(pyspark.__file__).parent


@pytest.fixture
def path(monkeypatch):
    """sys.path as spark-submit leaves it."""
    archives = INSTALLED / "python" / "lib"
    there = [f"{archives}/pyspark.zip", f"{archives}/py4j-0.10-src.zip", "/elsewhere/python/lib/x.zip"]
    monkeypatch.setattr(sys, "path", [*there, *sys.path])
    return there


def test_archives_give_way_to_the_installed_package(monkeypatch, path):
    monkeypatch.setenv("SPARK_HOME", str(INSTALLED))
    rest = sys.path[3:]
    early.prefer_installed()
    assert sys.path == [path[2], *rest]


@pytest.mark.parametrize("home", ["", "distribution", "package"])
def test_they_stay_where_nothing_installed_stands_for_them(monkeypatch, path, tmp_path, home):
    """No SPARK_HOME; a distribution of Spark; a package that Python does not look into."""
    if home == "package":
        (tmp_path / home).mkdir()
        (tmp_path / home / "__init__.py").touch()
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / home) if home else "")
    before = list(sys.path)
    early.prefer_installed()
    assert sys.path == before


SHOWN = """
    import sys
    sys.path.append(sys.argv[1])
    from pipelines import early
    assert "pyspark" not in sys.modules, "which would have come from the archive"
    early.prefer_installed()
    early.wake_jvm()
    from pipelines.session import spark_session

    def told(batches):
        import pyarrow as pa
        import pyspark
        list(batches)
        yield pa.RecordBatch.from_arrays([pa.array([pyspark.__file__])], ["from"])

    spark = spark_session("test")
    rows = spark.range(1, numPartitions=1).mapInArrow(told, "from string")
    import pyspark
    print("driver", pyspark.__file__)
    print("worker", rows.collect()[0][0])
"""


@pytest.mark.spark
@pytest.mark.e2e
def test_under_spark_submit_driver_and_workers_load_the_installed_package(tmp_path):
    (tmp_path / "shown.py").write_text(textwrap.dedent(SHOWN))
    command = [str(Path(sys.executable).parent / "spark-submit"), str(tmp_path / "shown.py"), str(ROOT)]
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME") if name in os.environ}
    kept |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=kept, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = dict(line.split(maxsplit=1) for line in ran.stdout.splitlines() if line.startswith(("driver ", "worker ")))
    assert {name: Path(place) for name, place in told.items()} == dict.fromkeys(
        ("driver", "worker"), INSTALLED / "__init__.py"
    )


def test_without_spark_submit_no_jvm_is_asked_for_anything(monkeypatch):
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    monkeypatch.setattr(threading, "Thread", lambda **_: pytest.fail("a thread was started"))
    early.wake_jvm()
