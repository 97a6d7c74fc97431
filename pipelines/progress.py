"""What a person sees of a running job: which step it is at and how long each took.

On a terminal the running step is shown with a clock that ticks; elsewhere (cron, Airflow, a file) each step is one plain
line when it ends.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

logger = logging.getLogger(__name__)


class Progress:
    """Steps of a job with their durations; `seconds` holds those that have ended."""

    def __init__(self, stream: TextIO | None = None, live: bool | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty() if live is None else live
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, description: str) -> Iterator["Step"]:
        """Times a step; what is put into its `result` ends its line."""
        step = Step(description)
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, ended), daemon=True)
        if self._live:
            ticker.start()
        begun = time.monotonic()
        try:
            yield step
        finally:
            ended.set()
            if self._live:
                ticker.join()
                self._stream.write("\r\x1b[K")
        self.seconds[name] = round(time.monotonic() - begun, 3)
        outcome = f": {step.result}" if step.result else ""
        self.line(f"{description}{outcome} ({self.seconds[name]:.1f} s)")

    def line(self, text: str) -> None:
        """One line, now."""
        self._stream.write(f"{text}\n")
        self._stream.flush()
        logger.info(text)

    @property
    def total(self) -> float:
        """Seconds since the job began."""
        return round(time.monotonic() - self._begun, 3)

    def _tick(self, step: "Step", ended: threading.Event) -> None:
        begun = time.monotonic()
        frames = "|/-\\"
        count = 0
        while not ended.wait(0.2):
            self._stream.write(f"\r\x1b[K{frames[count % 4]} {step.description} ... {time.monotonic() - begun:.0f} s")
            self._stream.flush()
            count += 1


class Step:
    """A step under way; set `result` to say what came of it."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.result = ""
