"""Processes of a test as the kernel knows them: who is whose parent, who belongs to us, and bounded waiting."""

import contextlib
import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")


def until(what, condition, seconds=60, every=0.05):
    """What `condition` gives once that is true; an error that says what was waited for after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(every)


def parent(pid):
    """The process id of a process's parent; 0 where it is gone."""
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command(pid):
    """A process's command line; empty where it is gone or dead."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def ancestor(pid, word):
    """The nearest process above `pid` whose command line holds `word`."""
    above = parent(pid)
    while above > 1 and word not in command(above):
        above = parent(above)
    assert above > 1, f"no process above {pid} ({command(pid)}) is a {word}"
    return above


def marked(mark, word=""):
    """Processes that were started with a text in their environment, those whose command line holds `word`."""
    found = []
    for folder in PROC.iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # somebody else's, or gone already
            continue
    return [pid for pid in found if pid != os.getpid() and word in command(pid)]


def kill(pid):
    """SIGKILL, and the wait until the kernel has done it."""
    os.kill(pid, signal.SIGKILL)
    until(f"the end of process {pid}", lambda: not command(pid))


def kill_marked(mark):
    """SIGKILL to all of them, until there are none: one may just be starting another."""

    def gone():
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not marked(mark)

    until("the end of all that the cluster started", gone, 20)
