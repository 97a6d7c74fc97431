"""Faults for one run, in a process that Python starts with this file beside its packages. No code of ours knows of it.

PREBATCH_FAULT (a JSON object) says what goes wrong; without it nothing does.

    at     "shard": half of a train shard is written. "commit": all is written but for the manifest
    does   "wait": until the file `go` is in `folder`, five minutes at most. "fail": twice, then no more.
           "zombie": dies, and a copy of it writes the shard once `go` is there. "limit": files hold `bytes` at most

The first process to get there is the one, or the first `times`; each leaves its id in `folder`/met-<number>. All others
pass.
"""

import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

FAULT = json.loads(os.environ.get("PREBATCH_FAULT", "null"))
MODULES = {"shard": "pipelines.sink", "commit": "pipelines.publication"}
WAIT_SECONDS = 300


def first(name, content):
    """Whether this is the first process to leave a file of this name; the file appears with its content."""
    path = Path(FAULT["folder"]) / name
    own = path.with_name(f"{name}.{os.getpid()}")
    own.write_text(content)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def wait():
    end = time.monotonic() + WAIT_SECONDS
    while not (Path(FAULT["folder"]) / "go").exists():
        if time.monotonic() > end:
            os._exit(1)
        time.sleep(0.02)


def fail():
    """The task that came first fails in its first two attempts."""
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    first("met", str(context.partitionId()))
    if (Path(FAULT["folder"]) / "met").read_text() == str(context.partitionId()) and context.attemptNumber() < 2:
        first(f"failed-{context.attemptNumber()}", "")
        raise RuntimeError("a planted fault")


def zombie(again):
    """To its driver this attempt is lost; a copy out of reach, with nothing open, writes the shard when all is over."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    os.setsid()
    os.closerange(0, 4096)
    wait()
    first("written", again())
    os._exit(0)


def strike(again=None):
    if FAULT["does"] == "fail":
        fail()
    elif FAULT["does"] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FAULT["bytes"], FAULT["bytes"]))
    elif any(first(f"met-{number}", str(os.getpid())) for number in range(FAULT.get("times", 1))):
        wait() if FAULT["does"] == "wait" else zombie(again)


def plant_in_publication(module):
    commit = module.Publication.commit

    def committed(self, *given):
        strike()
        return commit(self, *given)

    module.Publication.commit = committed


def plant_in_sink(module):
    start, write = module.ShardWriter.__init__, module.ShardWriter.write

    def started(self, *given):
        start(self, *given)
        self.given = given

    def written(self, records):
        def again():
            other = module.ShardWriter(*self.given)
            write(other, records)
            other.close()
            return other.path

        if self.path.startswith("train/"):
            whole, half = records.joined(), len(records.sizes) // 2
            write(self, type(records).of(whole.slice(0, half)))
            strike(again)
            write(self, type(records).of(whole.slice(half)))
        else:
            write(self, records)

    module.ShardWriter.__init__, module.ShardWriter.write = started, written


class Planted(importlib.abc.Loader):
    """Loads a module as its own loader does, then plants the fault."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        (plant_in_sink if FAULT["at"] == "shard" else plant_in_publication)(module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):  # noqa: ARG002 - what Python asks with
        if name != MODULES[FAULT["at"]]:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        spec.loader = Planted(spec.loader)
        return spec


if FAULT:
    sys.meta_path.insert(0, Finder())
