"""What a person sees of a running job: which step it is at, what that step waits for, and how long each took.

On a terminal the running step is shown with a clock that ticks and, where the engine can tell, how many of its tasks
are done. Elsewhere (cron, Airflow, a file) each step is one plain line when it ends; a long one says each minute that
it is still at work, so that a log never falls silent, and every ten seconds where `--progress` asks for it. A step
that fails says so before its error comes. With `--log json` all of these are events (schemas/events.py). Spark's own
jobs carry the name of the step that they belong to.
"""

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.words import duration
from schemas import events, redaction

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

LIVE_SECONDS, PLAIN_SECONDS, ASKED_SECONDS = 0.25, 60.0, 10.0
FRAMES = "|/-\\"


class Progress:
    """Steps of a job with their durations; `seconds` holds those that have ended well.

    Args:
      live: redraw one line; by default where the stream is a terminal that can.
      every_seconds: between signs of life.
      log: text for a person, json for one event a line, which is never redrawn.
      shown: of a running step; True: every few seconds off a terminal too, False: nothing until it ends.
    """

    def __init__(
        self, stream: TextIO | None = None, live: bool | None = None, every_seconds: float | None = None,
        log: events.Format = "text", shown: bool | None = None,
    ) -> None:  # fmt: skip
        self._stream = stream if stream is not None else sys.stderr
        self._json = log == "json"
        self._live = not self._json and shown is not False and (_is_terminal(self._stream) if live is None else live)
        seldom = ASKED_SECONDS if shown else PLAIN_SECONDS
        often = every_seconds or (LIVE_SECONDS if self._live else seldom)
        self._every = None if shown is False else often
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.tasks: Callable[[], tuple[int, int]] | None = None
        self._named: Callable[[str, str], Any] = lambda name, description: nullcontext()  # noqa: ARG005

    def watch(self, spark: "SparkSession") -> None:
        """From here on tells how many of Spark's tasks are done, and gives its jobs the names of steps."""
        from pipelines import engine

        self.tasks = engine.tasks(spark)
        self._named = lambda name, description: engine.named_jobs(spark, name, description)

    @contextmanager
    def step(self, name: str, description: str) -> Iterator["Step"]:
        """Times a step; what is put into its `result` ends its line, and its `fields` join its event."""
        step = Step(name, description)
        ended = threading.Event()
        begun = time.monotonic()
        ticker = threading.Thread(target=self._tick, args=(step, begun, ended), daemon=True)
        if self._json:
            self.tell("step_started", description, step=name)
        ticker.start()
        failed = True
        try:
            with self._named(name, description):
                yield step
            failed = False
        finally:
            ended.set()
            ticker.join()
            seconds = round(time.monotonic() - begun, 3)
            if failed:
                text = f"{description}: stopped after {duration(seconds)}"
                self.tell("step_failed", text, "error", step=name, seconds=seconds)
        self.seconds[name] = seconds
        outcome = f": {step.result}" if step.result else ""
        text = f"{description}{outcome} ({duration(seconds)})"
        self.tell("step_ended", text, step=name, seconds=seconds, **step.fields)

    def tell(self, event: str, text: str, level: events.Level = "info", **fields: Any) -> None:
        """One line, now: the text, or the event with its fields."""
        text = redaction.text(text)
        if self._live:  # the line of the running step
            self._stream.write("\r\x1b[K")
        self._stream.write((events.line(event, text, level, **fields) if self._json else text) + "\n")
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
            done, of = self.tasks() if self.tasks is not None else (0, 0)
            tasks = f", {done:,} of {of:,} tasks done" if of > 1 else ""
            text = redaction.text(f"{step.description} ... {clock}{tasks}")
            if self._live:
                columns = shutil.get_terminal_size().columns
                self._stream.write("\r\x1b[K" + f"{FRAMES[count % 4]} {text}"[: columns - 1])
                self._stream.flush()
            else:
                counted: dict[str, Any] = {"tasks_done": done, "tasks": of} if of else {}
                self.tell("step_running", text, step=step.name, seconds=seconds, **counted)
            count += 1


class Step:
    """A step under way; set `result` and `fields` to say what came of it, in words and as figures."""

    def __init__(self, name: str, description: str) -> None:
        self.name, self.description = name, description
        self.result = ""
        self.fields: dict[str, Any] = {}


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
