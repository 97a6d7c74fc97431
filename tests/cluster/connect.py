"""A real Spark Connect server on this machine, whose Python has nothing of ours, and clients that have no Java.

Like `standalone`: everything binds to loopback, lies below one folder, and carries one mark, by which it is found and
killed.
"""

import os
import socket
import subprocess
import sys
import uuid

import yaml

from pipelines.java import java_home
from tests.cluster import executor_python, processes
from tests.cluster.processes import until
from tests.cluster.standalone import ENTRY, JAVA_OPTIONS, ROOT, RUN_SECONDS, SPARK_HOME, free_port

SETTINGS = {
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": JAVA_OPTIONS,
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}


class ConnectServer:
    """Use as a context."""

    def __init__(self, folder):
        self.folder, self.neutral = folder, folder / "neutral"
        self.mark = f"PREBATCH_CLUSTER={uuid.uuid4().hex}"
        self.port = free_port()
        self._runs = 0

    def __enter__(self):
        try:
            for name in ("conf", "neutral", "tmp"):
                (self.folder / name).mkdir(parents=True)
            faults = ROOT / "tests" / "cluster" / "sitecustomize.py"
            self.python = executor_python.made(self.folder / "python", faults)
            settings = SETTINGS | {"spark.connect.grpc.binding.port": str(self.port)}
            command = [
                str(SPARK_HOME / "bin" / "spark-submit"), "--master", "local[2]",
                "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
                *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
            ]  # fmt: skip
            environment = self._environment() | {
                "JAVA_HOME": str(java_home().path),
                "SPARK_HOME": str(SPARK_HOME),
                "SPARK_CONF_DIR": str(self.folder / "conf"),
                "SPARK_LOCAL_DIRS": str(self.folder / "tmp"),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "PYSPARK_PYTHON": str(self.python),
            }
            with (self.folder / "log").open("wb") as log:
                self.process = subprocess.Popen(
                    command, cwd=self.neutral, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            until("a Spark Connect server that listens", self._listens)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        processes.kill_marked(self.mark)
        self.process.wait(10)

    @property
    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def run(self, document, *options):
        """prebatch, ended, as somebody runs it who has a server's address and no Java."""
        self._runs += 1
        path = self.folder / f"job-{self._runs}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        environment = self._environment() | {"SPARK_REMOTE": f"sc://127.0.0.1:{self.port}"}
        return subprocess.run(
            [sys.executable, str(ENTRY), "--config", str(path), *options],
            cwd=self.neutral, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False,
        )  # fmt: skip

    def _environment(self):
        mark, _, value = self.mark.partition("=")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "JAVA_HOME": "/nowhere",
            mark: value,
        }

    def _listens(self):
        assert self.process.poll() is None, f"the server ended:\n{self.log[-3000:]}"
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0
