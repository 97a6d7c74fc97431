"""Faults for one run, in a process that Python starts with this file beside its packages. No code of ours knows of it.

PREBATCH_FAULT (a JSON object) says what goes wrong; without it nothing does.

    at     "shard": half of the first train shard is written. "opening": it is not there yet. "commit": all is written
           but for the manifest
    does   "wait": until the file `go` is in `folder`, sixty seconds at most. "fail": twice, then no more. "zombie": dies,
           and a copy of it goes on once `go` is there. "limit": files may hold `bytes` from there on

The first process that gets there is the one; it leaves its id in `folder`/met. All others pass.
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

FAULT = json.loads(os.environ.get("PREBATCH_FAULT", "null"))
MODULES = {"shard": "pipelines.sink", "opening": "pipelines.sink", "commit": "pipelines.publication"}


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
    end = time.monotonic() + 60
    while not (Path(FAULT["folder"]) / "go").exists():
        if time.monotonic() > end:
            os._exit(1)
        time.sleep(0.02)


def fail():
    """The task that came first fails in its first two attempts."""
    from pyspark import TaskContext

    context = TaskContext.get()
    first("met", str(context.partitionId()))
    if (Path(FAULT["folder"]) / "met").read_text() == str(context.partitionId()) and context.attemptNumber() < 2:
        first(f"failed-{context.attemptNumber()}", "")
        raise RuntimeError("a planted fault")


def zombie():
    """To its driver this attempt is lost; a copy out of reach goes on, and ends when its shard is written."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    os.setsid()
    wait()
    close = sys.modules["pipelines.sink"].ShardWriter.close

    def last(writer):
        close(writer)
        first("written", writer.path)
        os._exit(0)

    sys.modules["pipelines.sink"].ShardWriter.close = last


def strike():
    if FAULT["does"] == "fail":
        fail()
    elif FAULT["does"] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (FAULT["bytes"], FAULT["bytes"]))
    elif first("met", str(os.getpid())):
        {"wait": wait, "zombie": zombie}[FAULT["does"]]()


def plant(module):
    """Puts the fault where it belongs in a module that was just loaded."""
    if FAULT["at"] == "commit":
        commit = module.Publication.commit

        def struck(self, *given):
            strike()
            return commit(self, *given)

        module.Publication.commit = struck
        return
    start, write = module.ShardWriter.__init__, module.ShardWriter.write

    def opening(self, root, folder, *given):
        if folder == "train" and FAULT["at"] == "opening":
            strike()
        start(self, root, folder, *given)

    def writing(self, records):
        if self.path.startswith("train/") and FAULT["at"] == "shard":
            half = len(records) // 2
            write(self, records.slice(0, half))
            strike()
            records = records.slice(half)
        write(self, records)

    module.ShardWriter.__init__, module.ShardWriter.write = opening, writing


class Planted(importlib.abc.Loader):
    """Loads a module as its own loader does, then plants the fault."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        plant(module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != MODULES[FAULT["at"]]:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = Planted(spec.loader)
        return spec


if FAULT:
    sys.meta_path.insert(0, Finder())
