"""A local session that nobody configured: on loopback alone, without a UI, whatever it starts; its Python is warm."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pipelines import session

ROOT = Path(__file__).parents[2]

# Runs a job with Python workers, then says which addresses its processes listen on, as the kernel has them.
LISTENING = """
    import json, os, sys
    from pathlib import Path
    from pipelines.engine import named_jobs, parallelism
    from pipelines.session import spark_session

    def same(batches):
        yield from batches

    def loaded(batches):
        # What a worker has before it sees its first row, and the command line of the process that it was forked from.
        names = [name for name in sys.modules if name.startswith(("numpy", "pandas", "pyarrow", "pipelines", "tensor"))]
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
        import pyarrow as pa
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.array([" ".join(names)]), pa.array([parent])], ["names", "parent"])

    def descendants(pid):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield int(child)
                yield from descendants(int(child))

    def sockets(pid):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(path)
            except OSError:
                continue
            if target.startswith("socket:["):
                yield target[8:-1]

    spark = spark_session("loopback")
    first = spark.range(1, numPartitions=1).mapInArrow(loaded, "names string, parent string").first()
    assert spark.range(100, numPartitions=2).repartition(3).mapInArrow(same, "id long").count() == 100
    ours = {inode for pid in (os.getpid(), *descendants(os.getpid())) for inode in sockets(pid)}
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in ours:
                listening.append(fields[1])
    told = {"listening": listening, "ui": spark.sparkContext.uiWebUrl, **first.asDict()}
    print(json.dumps(told))
"""
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.spark
@pytest.mark.e2e
def test_a_local_session_listens_on_loopback_alone_and_shows_no_page(tmp_path):
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LISTENING)],
        cwd=tmp_path, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["listening"], "Spark listens on something, so nothing was found at all"
    assert {address.partition(":")[0] for address in told["listening"]} <= LOOPBACK
    assert told["ui"] is None
    # Its workers are forked from a process that has all they import, so that none of them has to.
    assert "-m\0pipelines.preloaded" in told["parent"]
    assert set(TASKS_IMPORT) <= set(told["names"].split())
    assert not [name for name in told["names"].split() if name.startswith("tensorflow")]


TASKS_IMPORT = ("numpy", "pyarrow", "pipelines.negatives", "pipelines.records")


def test_what_workers_fork_from_has_all_that_tasks_import_and_starts_nothing():
    """In a process of its own: with that module alone, no module of ours is missing to whoever draws or writes."""
    code = """
        import sys, threading
        import pipelines.preloaded
        before = set(sys.modules)
        assert {"pyspark.worker", *%r} <= before, before
        assert not [name for name in before if name.partition(".")[0] in ("tensorflow", "apache_beam", "trainer")]
        from pipelines.negatives import with_negatives
        from pipelines.records import written
        from pipelines import blocks, encoding, hits, history, parts, sink, exclusion
        rooms = ("schemas", "samplers", "pipelines", "numpy", "pyarrow", "pandas")
        late = [name for name in set(sys.modules) - before if name.partition(".")[0] in rooms]
        assert not late, late
        assert threading.active_count() == 1
    """
    code = textwrap.dedent(code) % (TASKS_IMPORT,)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_workers_fork_from_there_where_their_python_surely_finds_it(monkeypatch):
    setting = {"spark.python.daemon.module": "pipelines.preloaded"}
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    assert session._preloaded() == setting
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    assert session._preloaded() == setting
    monkeypatch.setenv("PYSPARK_PYTHON", "/some/other/python3")  # may have none of our packages
    assert session._preloaded() == {}
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)

    def lacking(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", lacking)  # run from a folder of sources
    assert session._preloaded() == {}


class Engine:
    """What `warm` sees of a session; its one job takes until `go` and then fails, if it is to."""

    def __init__(self, master: str, error: Exception | None = None) -> None:
        self.conf, self.error, self.go = {"spark.master": master}, error, threading.Event()
        self.asked: list[str] = []

    def range(self, *_: int, **__: int) -> "Engine":
        return self

    def mapInArrow(self, function: Any, _: str) -> "Engine":  # noqa: N802 - Spark's own name
        self.asked.append(threading.current_thread().name)
        assert list(function(iter([1, 2]))) == [1, 2]
        return self

    def count(self) -> int:
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        self.asked.append("done")
        return 1


@pytest.mark.parametrize("error", [None, RuntimeError("Java has gone")])
def test_a_local_session_starts_its_python_beside_the_job(monkeypatch, error):
    """Nobody waits for it, and what goes wrong there is the job's to say."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    engine: Any = Engine("local[2]", error)
    before = set(threading.enumerate())
    session.warm(engine)
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "warm"
    assert not thread.daemon  # Spark would tell of a task that was torn away
    engine.go.set()
    thread.join(60)
    assert engine.asked == (["warm", "done"] if error is None else ["warm"])
    assert told == []


def test_a_clusters_python_is_started_by_its_executors():
    engine: Any = Engine("spark://host:7077")
    before = set(threading.enumerate())
    session.warm(engine)
    assert set(threading.enumerate()) <= before
    assert engine.asked == []
