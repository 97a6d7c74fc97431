"""The Spark session of a job, and Spark's errors in words.

spark-submit and clusters bring their own settings, which stay as they are; a local session that nobody configured binds
to loopback and opens no UI.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import threading
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from pipelines import batches, engine
from schemas import errors
from schemas.errors import EnvironmentProblem, ProjectError

_LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 2)),
    # What is kept of the clicks is numbers that hardly compress, but looking for how to takes a tenth of a job.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
}
# Else each use of a column asks the JVM five things and looks for IPython, so that an error can name its line of ours.
_DEFAULTS = {"spark.python.sql.dataFrameDebugging.enabled": "false"}
# Histories need all of a user's clicks in one partition. Both of these let Spark take partitions apart after a join, as
# it cannot know that a Python task relies on them.
_REQUIRED = {
    "spark.sql.session.timeZone": "UTC",
    **batches.LIMITS,
    "spark.sql.adaptive.skewJoin.enabled": "false",
    "spark.sql.adaptive.localShuffleReader.enabled": "false",
}
# What Spark raises: Py4J's own error where PySpark has no class for a Java exception; Spark Connect has no Py4J.
ENGINE_ERRORS: tuple[type[Exception], ...] = (PySparkException,)
if importlib.util.find_spec("py4j"):
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]

    ENGINE_ERRORS = (PySparkException, Py4JJavaError)
_RAISED_IN_TASK = re.compile(r"^(?:schemas\.errors\.)(\w+): (.*)$", re.MULTILINE)
_NOT_SHIPPED = re.compile(r"No module named '(pipelines|samplers|schemas)\b")
_DISK_FULL = re.compile(r"No space left on device")


def spark_session(name: str) -> SparkSession:
    """The session to use: spark-submit's, Spark Connect's, or a local one on all cores."""
    builder = SparkSession.builder.appName(name)
    remote = "SPARK_REMOTE" in os.environ
    if not remote:
        builder = _with_defaults(builder)
    try:
        session = builder.getOrCreate()
    except PySparkException as error:
        raise EnvironmentProblem(f"Spark did not start: {str(error).splitlines()[0]}") from error
    for key, value in _REQUIRED.items():
        session.conf.set(key, value)
    if remote:
        from pipelines import shipment

        shipment.ship(session)
    return session


def _with_defaults(builder: SparkSession.Builder) -> SparkSession.Builder:
    from pyspark import SparkConf, SparkContext

    if "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()  # noqa: SLF001 - spark-submit's settings are in its JVM
    else:
        from pipelines.class_archive import options
        from pipelines.java import ensure_java

        ensure_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master("local[*]").config("spark.driver.memory", "2g")
        builder = builder.config("spark.driver.extraJavaOptions", options())
    given, defaults = SparkConf(), _DEFAULTS
    if given.get("spark.master", "local").startswith("local"):
        defaults = defaults | _LOCAL_DEFAULTS | _preloaded()
    for key, value in defaults.items():
        if not given.contains(key):
            builder = builder.config(key, value)
    return builder


def wake() -> None:
    """Has the JVM that runs already load Scala's reflection, half a second that a session waits for; returns at once.

    PySpark is imported by now: its modules import each other, which two threads must not do at once.
    """
    from pyspark import SparkContext

    def load() -> None:
        with contextlib.suppress(Exception):  # whatever is wrong, the session will say
            SparkContext._ensure_initialized()  # noqa: SLF001 - connects to the JVM
            jvm: Any = SparkContext._jvm  # noqa: SLF001
            getattr(getattr(jvm.scala.reflect.runtime, "package$"), "MODULE$").universe()

    threading.Thread(target=load, name="wake", daemon=True).start()


def warm(spark: SparkSession) -> None:
    """Has a local session start Python for the tasks to come while the JVM is at the first inputs; returns at once.

    Two to three seconds of a small job. A cluster's executors start theirs when they are needed. A process that ends
    before waits for it, as Spark would tell of a task that was torn away.
    """

    def start() -> None:
        with contextlib.suppress(Exception):  # the job itself will say what is wrong
            spark.range(1, numPartitions=1).mapInArrow(lambda batches: batches, "id long").count()

    if engine.is_local(spark):
        threading.Thread(target=start, name="warm").start()


def _preloaded() -> dict[str, str]:
    """The setting that lets local workers fork from `pipelines.preloaded`, where their Python surely finds it."""
    own = os.environ.get("PYSPARK_PYTHON", sys.executable) == sys.executable
    try:
        importlib.metadata.distribution("prebatch")
    except importlib.metadata.PackageNotFoundError:
        own = False
    return {"spark.python.daemon.module": "pipelines.preloaded"} if own else {}


def explained(error: BaseException) -> ProjectError | None:
    """The error behind one of Spark's, where a person can act on it: one of ours raised in a task, or a full disk."""
    text = str(error)
    found = _RAISED_IN_TASK.findall(text)
    if found:
        name, message = found[-1]
        kind = getattr(errors, name, ProjectError)
        return kind(message.strip()) if issubclass(kind, ProjectError) else None
    missing = _NOT_SHIPPED.search(text)
    if missing:
        return EnvironmentProblem(
            f"executors have no module {missing[1]}: this project was not shipped to them; build dist/dist.zip with "
            "`make dist`, and give spark-submit the option --py-files dist/dist.zip"
        )
    if _DISK_FULL.search(text):
        return EnvironmentProblem(
            "no space left on a disk that Spark writes to; make room in output.path or spark.local.dir"
        )
    return ProjectError(f"Spark failed: {cause(error)}") if isinstance(error, ENGINE_ERRORS) else None


def cause(error: BaseException) -> str:
    """The line of an engine's error that says most: the innermost cause, without traces and plans."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    innermost = (
        line for line in reversed(lines) if re.match(r"^(Caused by: |:? ?\w+(\.\w+)*(Error|Exception): )", line)
    )
    return next(innermost, lines[0]).removeprefix("Caused by: ").lstrip(": ")[:500]
