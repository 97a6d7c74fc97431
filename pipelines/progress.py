"""What a person sees of a running job: which step it is at, what that step waits for, and how long each took.

On a terminal the running step is shown with a clock that ticks and, where the engine can tell, how many of its tasks
are done. Elsewhere (cron, Airflow, a file) each step is one plain line when it ends; a long one says each minute that
it is still at work, so that a log never falls silent. A step that fails says so before its error comes.
"""

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from pipelines.words import duration

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

LIVE_SECONDS, PLAIN_SECONDS = 0.25, 60.0
FRAMES = "|/-\\"
Tasks = Callable[[], tuple[int, int]]


class Progress:
    """Steps of a job with their durations; `seconds` holds those that have ended well.

    Args:
      live: redraw one line; by default where the stream is a terminal that can.
      every_seconds: between signs of life.
    """

    def __init__(
        self, stream: TextIO | None = None, live: bool | None = None, every_seconds: float | None = None
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = _is_terminal(self._stream) if live is None else live
        self._every = every_seconds or (LIVE_SECONDS if self._live else PLAIN_SECONDS)
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.tasks: Tasks | None = None

    @contextmanager
    def step(self, name: str, description: str) -> Iterator["Step"]:
        """Times a step; what is put into its `result` ends its line."""
        step = Step(description)
        ended = threading.Event()
        begun = time.monotonic()
        ticker = threading.Thread(target=self._tick, args=(step, begun, ended), daemon=True)
        ticker.start()
        failed = True
        try:
            yield step
            failed = False
        finally:
            ended.set()
            ticker.join()
            if self._live:
                self._stream.write("\r\x1b[K")
            if failed:
                self.line(f"{description}: stopped after {duration(time.monotonic() - begun)}")
        self.seconds[name] = round(time.monotonic() - begun, 3)
        outcome = f": {step.result}" if step.result else ""
        self.line(f"{description}{outcome} ({duration(self.seconds[name])})")

    def line(self, text: str) -> None:
        """One line, now."""
        self._stream.write(f"{text}\n")
        self._stream.flush()
        logger.info(text)

    @property
    def total(self) -> float:
        """Seconds since the job began."""
        return round(time.monotonic() - self._begun, 3)

    def _tick(self, step: "Step", begun: float, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(self._every):
            seconds = int(time.monotonic() - begun)
            clock = f"{seconds} s" if seconds < 60 else duration(seconds)
            text = f"{step.description} ... {clock}{self._tasks_done()}"
            if self._live:
                columns = shutil.get_terminal_size().columns
                self._stream.write("\r\x1b[K" + f"{FRAMES[count % 4]} {text}"[: columns - 1])
                self._stream.flush()
            else:
                self.line(text)
            count += 1

    def _tasks_done(self) -> str:
        if self.tasks is None:
            return ""
        done, of = self.tasks()
        return f", {done:,} of {of:,} tasks done" if of > 1 else ""


class Step:
    """A step under way; set `result` to say what came of it."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.result = ""


def spark_tasks(spark: "SparkSession") -> Tasks:
    """Counts (done, all) tasks of the running Spark stages, for `Progress.tasks`; (0, 0) where Spark does not tell."""

    def count() -> tuple[int, int]:
        from py4j.protocol import Py4JError  # type: ignore[import-untyped]
        from pyspark.errors import PySparkException

        try:
            tracker = spark.sparkContext.statusTracker()
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        except (PySparkException, Py4JError, AttributeError, OSError):
            return 0, 0  # Spark Connect has no tracker, a stopped session no longer one; a clock does without
        known = [stage for stage in stages if stage is not None]
        return sum(stage.numCompletedTasks for stage in known), sum(stage.numTasks for stage in known)

    return count


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
