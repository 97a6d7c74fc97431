"""A real cluster on this machine: a standalone master and two workers of one core, on addresses of their own.

The second worker is on 127.0.0.2, as Spark places a speculative copy on another host only. Everything binds to
loopback, lies below one folder, and carries one mark in its environment, by which all of it is found and killed.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pyspark
import yaml

from pipelines.java import java_home
from tests.cluster import executor_python, processes
from tests.cluster.processes import until

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "pipelines" / "prebatch.py"
SPARK_HOME = Path(pyspark.__file__).parent
HOSTS = ("127.0.0.1", "127.0.0.2")
RUN_SECONDS = 300  # a run takes some 15 s on an idle machine; one that others load heavily has taken 170
# Runs this short end before the second compiler and a parallel collector have paid for themselves.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "512m",
    "spark.driver.extraJavaOptions": JAVA_OPTIONS,
    "spark.executor.extraJavaOptions": JAVA_OPTIONS,
    "spark.executor.memory": "512m",
    "spark.sql.shuffle.partitions": "2",
    # Nor are 3,000 rows worth compiling for.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Of an executor that is gone, shuffled data is asked for once more and not for 15 seconds.
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "1s",
}

ONE_EXECUTOR = {"spark.cores.max": "1"}  # for runs that need no more, as each costs a JVM


class Cluster:
    """Use as a context. `zip` is what `make dist` makes, shipped with each run that does not refuse it."""

    def __init__(self, folder, archive):
        self.folder, self.archive = folder, archive
        self.neutral, self.hosts = folder / "neutral", HOSTS
        self.mark = f"PREBATCH_CLUSTER={uuid.uuid4().hex}"
        self._daemons = {}
        self._runs = 0

    def __enter__(self):
        try:
            for name in ("conf", "neutral", "logs", "tmp"):
                (self.folder / name).mkdir()
            faults = ROOT / "tests" / "cluster" / "sitecustomize.py"
            self.python = executor_python.made(self.folder / "python", faults)
            (self.folder / "faults").mkdir()
            (self.folder / "faults" / "sitecustomize.py").symlink_to(faults)
            port = free_port()
            self.master = f"spark://127.0.0.1:{port}"
            self._start("master", HOSTS[0], ["--host", HOSTS[0], "--port", str(port), "--webui-port", "0"])
            self._logged("master", r"I have been elected leader", 1)
            for host in HOSTS:
                self.start_worker(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        processes.kill_marked(self.mark)
        for daemon in self._daemons.values():
            daemon.wait(10)

    def start_worker(self, host):
        """Starts the worker of a host, once more where it was killed, and waits until the master knows it."""
        known = self._count("master", r"Registering worker")
        folder = self.folder / f"work-{host}"
        options = ["--host", host, "-c", "1", "-m", "600m", "-d", str(folder), "--webui-port", "0", self.master]
        self._start(host, host, options)
        self._logged("master", r"Registering worker", known + 1)

    def submit(self, document, *options, ship=True, fault=None, driver_fault=None, conf=None):
        """A `Run` of the job file, from a folder that has nothing of ours in it."""
        self._runs += 1
        folder = self.folder / f"run-{self._runs:02d}"
        (folder / "events").mkdir(parents=True)
        (folder / "job.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        settings = SETTINGS | {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": str(folder / "events"),
            "spark.eventLog.compress": "false",
        } | (conf or {})  # fmt: skip
        environment = self._environment(HOSTS[0]) | {
            "PYSPARK_PYTHON": str(self.python),
            "PYSPARK_DRIVER_PYTHON": sys.executable,
        }
        if fault:
            settings["spark.executorEnv.PREBATCH_FAULT"] = json.dumps(fault | {"folder": str(folder)})
        if driver_fault:
            environment["PREBATCH_FAULT"] = json.dumps(driver_fault | {"folder": str(folder)})
            environment["PYTHONPATH"] = str(self.folder / "faults")
        command = [
            str(SPARK_HOME / "bin" / "spark-submit"), "--master", self.master,
            *(["--py-files", str(self.archive)] if ship else []),
            *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
            str(ENTRY), "--config", str(folder / "job.yaml"), *options,
        ]  # fmt: skip
        return Run(folder, command, environment, self.neutral)

    def quiet(self):
        """Waits until no executor and no driver is left, so that nothing of a run goes on behind a test's back."""
        for word in ("CoarseGrainedExecutorBackend", "prebatch.py"):
            until(f"the end of every {word}", lambda word=word: not processes.marked(self.mark, word))

    def _environment(self, host):
        """Nothing of the tests' own but the Java and where programs are."""
        mark, _, value = self.mark.partition("=")
        return {
            "JAVA_HOME": str(java_home().path),
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(self.folder / "conf"),
            "SPARK_LOCAL_DIRS": str(self.folder / "tmp"),
            "SPARK_LOCAL_IP": host,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": JAVA_OPTIONS,
            "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
            mark: value,
        }

    def _start(self, name, host, options):
        kind = "master.Master" if name == "master" else "worker.Worker"
        if name in self._daemons:
            self._daemons[name].wait(20)
        command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *options]
        with (self.folder / "logs" / name).open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command, cwd=self.neutral, env=self._environment(host), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _count(self, name, pattern):
        return len(re.findall(pattern, (self.folder / "logs" / name).read_text(errors="replace")))

    def _logged(self, name, pattern, times):
        log = self.folder / "logs" / name
        try:
            until(f"{pattern!r} in the log of {name}", lambda: self._count(name, pattern) >= times)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log ends with:\n{log.read_text(errors='replace')[-2000:]}") from error


class Run:
    """One spark-submit."""

    def __init__(self, folder, command, environment, place):
        self.folder = folder
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def said(self):
        """What the run printed so far, on stdout and stderr."""
        return self._log.read_text(errors="replace")

    @property
    def errors(self):
        """The lines that a person is meant to read when it fails."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    def met(self, number=0):
        """The process that got to the planted fault, of several the one with this number."""
        return int(self._until("a process that gets to the planted fault", lambda: self._marker(f"met-{number}")))

    def written(self):
        """The shard that a zombie has written."""
        return self._until("the zombie's shard", lambda: self._marker("written"))

    def go(self):
        """Lets those go on that wait."""
        (self.folder / "go").touch()

    def ended(self):
        """The exit code."""
        try:
            return self.process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"a run did not end in {RUN_SECONDS} s; it said:\n{self.said[-3000:]}") from error
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def succeeded(self):
        code = self.ended()
        assert code == 0, f"exit code {code}; it said:\n{self.said[-3000:]}"

    def events(self, kind):
        """What Spark logged of a kind of event."""
        lines = [line for path in (self.folder / "events").rglob("events*") for line in path.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if event["Event"] == kind]

    def _marker(self, name):
        path = self.folder / name
        assert self.process.poll() is None or path.exists() or name == "written", f"it ended:\n{self.said[-3000:]}"
        return path.read_text() if path.exists() else None

    def _until(self, what, condition):
        try:
            return until(what, condition, RUN_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; the run said:\n{self.said[-3000:]}") from error


def free_port():
    """A port of loopback that nobody listened on a moment ago."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]
