"""What a job says while it runs: one line a step off a terminal, a ticking clock on one, and a word on failure."""

import io
import json
import os
import pty
import re
import time
from typing import Any

import pytest

from pipelines.progress import Progress


class Ticks:
    """Waits until a stream holds a pattern, so that no test depends on the machine's speed."""

    def __init__(self, stream):
        self.stream = stream

    def wait_for(self, pattern):
        deadline = time.monotonic() + 10
        while not re.search(pattern, self.stream.getvalue()):
            assert time.monotonic() < deadline, self.stream.getvalue()
            time.sleep(0.005)


def test_off_a_terminal_each_step_is_one_plain_line_when_it_ends():
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("items", "reading items") as step:
        assert stream.getvalue() == ""
        step.result = "5 usable"
    with progress.step("plan", "planning"):
        pass
    assert re.fullmatch(r"reading items: 5 usable \(0\.\d s\)\nplanning \(0\.\d s\)\n", stream.getvalue())
    assert list(progress.seconds) == ["items", "plan"]


def test_off_a_terminal_a_long_step_says_that_it_is_at_work(monkeypatch):
    monkeypatch.setattr("pipelines.progress.PLAIN_SECONDS", 0.01)
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("records", "writing records"):
        Ticks(stream).wait_for(r"writing records \.\.\. 0 s\n")
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_line_is_redrawn_with_a_clock_and_the_tasks_done():
    stream = io.StringIO()
    progress = Progress(stream, live=True, every_seconds=0.01)
    progress.tasks = lambda: (3, 8)
    with progress.step("records", "writing records"):
        Ticks(stream).wait_for(r"\r\x1b\[K[|/\\-] writing records \.\.\. 0 s, 3 of 8 tasks done")
    shown = re.split(r"\r\x1b\[K", stream.getvalue())[-1]
    assert re.fullmatch(r"writing records \(\d\.\d s\)\n", shown)


def test_on_a_terminal_no_redrawn_line_is_wider_than_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    progress = Progress(stream, live=True, every_seconds=0.01)
    with progress.step("long", "a description that is wider than the terminal"):
        Ticks(stream).wait_for("a descr")
    redrawn = re.split(r"\r\x1b\[K", stream.getvalue())[1:-1]
    assert redrawn
    assert max(map(len, redrawn)) < 20


def test_off_a_terminal_it_says_so_more_often_where_it_is_asked_to(monkeypatch):
    monkeypatch.setattr("pipelines.progress.ASKED_SECONDS", 0.01)
    stream = io.StringIO()
    with Progress(stream, shown=True).step("records", "writing records"):
        Ticks(stream).wait_for(r"writing records \.\.\. 0 s\n")


@pytest.mark.parametrize("live", [False, True])
def test_nothing_of_a_running_step_is_shown_where_nobody_wants_it(live, monkeypatch):
    monkeypatch.setattr("pipelines.progress.PLAIN_SECONDS", 0.001)
    monkeypatch.setattr("pipelines.progress.LIVE_SECONDS", 0.001)
    stream = io.StringIO()
    with Progress(stream, live=live, shown=False).step("records", "writing records"):
        time.sleep(0.05)
    assert re.fullmatch(r"writing records \(0\.\d s\)\n", stream.getvalue())


def test_as_events_each_line_is_one_object_and_nothing_is_redrawn():
    stream = io.StringIO()
    progress = Progress(stream, live=True, every_seconds=0.01, log="json")
    progress.tasks = lambda: (3, 8)
    with progress.step("records", "writing records") as step:
        Ticks(stream).wait_for("step_running")
        step.result, step.fields = "5 records", {"records": 5}
    first, *running, last = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["step"], first["message"]) == ("step_started", "records", "writing records")
    assert {(event["event"], event["tasks_done"], event["tasks"]) for event in running} == {("step_running", 3, 8)}
    assert (last["event"], last["records"], last["level"]) == ("step_ended", 5, "info")
    assert last["seconds"] == progress.seconds["records"]
    assert last["message"].startswith("writing records: 5 records (")


def test_a_step_that_fails_is_an_event_of_level_error():
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), Progress(stream, log="json").step("records", "writing records"):
        raise ZeroDivisionError
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["event"], last["level"], last["step"]) == ("step_failed", "error", "records")


def test_a_connect_server_s_stages_are_counted(monkeypatch):
    """As PySpark's client hands them on: stages with their tasks, and at the end of an operation that it is done."""
    from types import SimpleNamespace

    from pipelines import engine

    handlers: list[Any] = []
    tags: set[str] = set()
    spark: Any = SimpleNamespace(registerProgressHandler=handlers.append, addTag=tags.add, removeTag=tags.remove)
    monkeypatch.setattr(engine, "is_remote", lambda: True)
    count = engine.tasks(spark)
    (handler,) = handlers
    stages = [SimpleNamespace(num_tasks=8, num_completed_tasks=n, done=done) for n, done in ((8, True), (3, False))]
    handler(stages=stages, inflight_tasks=2, operation_id="x", done=False)
    assert count() == (3, 8)
    handler(stages=stages, inflight_tasks=0, operation_id="x", done=True)
    assert count() == (0, 0)
    handler(stages=None, inflight_tasks=0, operation_id=None, done=False)
    assert count() == (0, 0)
    with engine.named_jobs(spark, "records", "drawing, writing"):
        assert tags == {"prebatch.records"}
    assert tags == set()
    assert engine.parallelism(spark) == 1


@pytest.mark.parametrize("live", [False, True])
def test_a_step_that_fails_says_so_and_is_not_timed(live):
    stream = io.StringIO()
    progress = Progress(stream, live=live)

    def fail():
        with progress.step("records", "writing records"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert re.search(r"writing records: stopped after 0\.\d s\n$", stream.getvalue())
    assert progress.seconds == {}


@pytest.mark.parametrize(("terminal", "redraws"), [("xterm", True), ("dumb", False), ("", False)])
def test_redraws_only_where_the_terminal_can(monkeypatch, terminal, redraws):
    monkeypatch.setenv("TERM", terminal)
    controller, end = pty.openpty()
    with os.fdopen(end, "w") as stream:
        with Progress(stream).step("a", "step a"):
            pass
        shown = ""
        while "step a (0" not in shown:  # a terminal hands on what it has when it comes to it
            shown += os.read(controller, 1000).decode()
    os.close(controller)
    assert ("\x1b[K" in shown) == redraws
    assert "step a (0" in shown


@pytest.mark.spark
def test_spark_counts_its_tasks(spark):
    from pipelines import engine

    count = engine.tasks(spark)
    assert count() == (0, 0)
    import threading

    seen = []
    work = threading.Thread(target=lambda: spark.range(4, numPartitions=4).mapInArrow(slow, "id long").collect())
    work.start()
    while work.is_alive():
        seen.append(count())
        time.sleep(0.05)
    work.join()
    assert {of for _, of in seen} >= {4}


def slow(batches):
    time.sleep(0.4)
    yield from batches


@pytest.mark.spark
def test_what_is_done_meanwhile_gives_its_result_or_its_error_and_names_its_jobs(spark):
    from pipelines import engine

    def description():
        return spark.sparkContext.getLocalProperty("spark.job.description")

    assert engine.meanwhile(spark, "users", "reading users", description)() == "reading users"
    assert description() is None
    failed = engine.meanwhile(spark, "users", "reading users", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed()
