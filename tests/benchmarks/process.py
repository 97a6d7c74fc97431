"""Runs a command and watches what it starts: seconds, processor seconds and peak memory of each kind of process.

Reads /proc five times a second, so it is for Linux alone and misses what lives shorter than that. Resident memory
counts pages that workers share, such as a mapped catalogue, in each of them; `anonymous` is a process's own.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
EVERY_SECONDS = 0.2


@dataclass
class Peak:
    """Of the processes of one kind: bytes of the largest, and processor seconds of all."""

    resident_bytes: int = 0
    anonymous_bytes: int = 0
    cpu_seconds: float = 0.0


@dataclass
class Usage:
    """What a command took. peaks: by kind, `jvm`, `driver` (Python) and `worker` (Python). ended: within its limit."""

    seconds: float
    code: int
    ended: bool = True
    peaks: dict[str, Peak] = field(default_factory=dict)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all."""
        return sum(peak.cpu_seconds for peak in self.peaks.values())


def watched(command: list[str], log: Path, limit_seconds: float | None = None) -> Usage:
    """Runs a command to its end, or to a limit; its output goes to a log."""
    begun = time.monotonic()
    watch = _Watch()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        ended = True
        while True:
            watch.look(process.pid)
            try:
                process.wait(EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if limit_seconds is not None and time.monotonic() - begun > limit_seconds:
                    ended = False
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    break
    return Usage(round(time.monotonic() - begun, 2), process.returncode, ended, watch.peaks())


class _Watch:
    """Figures of every process below one, as they were when last seen."""

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, Peak]] = {}

    def look(self, root: int) -> None:
        parents = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                try:
                    parents[int(path.name)] = int(_stat(path)[1])
                except (OSError, IndexError):  # it has ended meanwhile
                    continue
        below = {root}
        while grown := {child for child, parent in parents.items() if parent in below} - below:
            below |= grown
        # What Spark leaves to init when its launcher is gone has been seen under the launcher before.
        for process in below | (self.found.keys() & parents.keys()):
            try:
                self._note(process)
            except (OSError, IndexError, ValueError):
                continue

    def _note(self, process: int) -> None:
        folder = Path("/proc") / str(process)
        command = (folder / "cmdline").read_bytes()
        if not command:
            return
        kind, peak = self.found.setdefault(process, ("", Peak()))
        now = kind_of(command.split(b"\0"))
        lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        stat = _stat(folder)
        if now != kind:  # the launcher becomes another program
            peak = Peak(cpu_seconds=peak.cpu_seconds)
        peak.resident_bytes = max(peak.resident_bytes, _bytes(lines["VmHWM"]))
        peak.anonymous_bytes = max(peak.anonymous_bytes, _bytes(lines["RssAnon"]))
        peak.cpu_seconds = (int(stat[11]) + int(stat[12])) / TICKS
        self.found[process] = (now, peak)

    def peaks(self) -> dict[str, Peak]:
        kinds: dict[str, Peak] = {}
        for kind, peak in self.found.values():
            whole = kinds.setdefault(kind, Peak())
            whole.resident_bytes = max(whole.resident_bytes, peak.resident_bytes)
            whole.anonymous_bytes = max(whole.anonymous_bytes, peak.anonymous_bytes)
            whole.cpu_seconds = round(whole.cpu_seconds + peak.cpu_seconds, 2)
        return kinds


def kind_of(command: list[bytes]) -> str:
    """Which part of a Spark job a command line is."""
    if b"pyspark.daemon" in command or b"pyspark.worker" in command:
        return "worker"
    name = command[0].rsplit(b"/", 1)[-1]
    return "jvm" if name == b"java" else "driver" if name.startswith(b"python") else "launcher"


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/<pid>/stat behind the name, which may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _bytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024
