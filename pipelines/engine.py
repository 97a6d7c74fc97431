"""What Spark tells of its work and is told about it: tasks done, names of jobs, cores.

Classic Spark answers through py4j and its SparkContext, Spark Connect through messages of its own and has neither. All
else in this folder goes by DataFrames, which both have, so that a job runs on either; tests/architecture sees to it.
Where Spark does not tell, the answers here are "nothing is known", never an error: a job is not worth less for it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.errors import PySparkException
from pyspark.sql.utils import is_remote

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Result = TypeVar("Result")
Tasks = Callable[[], tuple[int, int]]
_DESCRIPTION = "spark.job.description"


def tasks(spark: "SparkSession") -> Tasks:
    """Counts (done, all) tasks of the running Spark stages; (0, 0) while Spark does not tell."""
    return _remote_tasks(spark) if is_remote() else _classic_tasks(spark)


@contextmanager
def named_jobs(spark: "SparkSession", name: str, description: str) -> Iterator[None]:
    """Spark jobs that this thread starts inside say which step they belong to.

    Classic Spark's UI and event log show the description; a Connect server has the tag `prebatch.<name>`, by which
    operations can be found and interrupted.
    """
    if is_remote():
        tag = f"prebatch.{name}"
        spark.addTag(tag)
        try:
            yield
        finally:
            spark.removeTag(tag)
        return
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]

    context = spark.sparkContext
    context.setLocalProperty(_DESCRIPTION, description)
    try:
        yield
    finally:
        with suppress(Py4JError, OSError):  # an engine that died inside has nothing to forget
            context.setLocalProperty(_DESCRIPTION, None)  # type: ignore[arg-type]


def meanwhile(spark: "SparkSession", name: str, description: str, work: Callable[[], Result]) -> Callable[[], Result]:
    """Has another thread do what `named_jobs` starts; the answer waits for it, and gives its result or its error.

    What ends this process does not wait for it.
    """
    found: Future[Result] = Future()

    def run() -> None:
        try:
            with named_jobs(spark, name, description):
                found.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is the asking thread's
            found.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return found.result


def is_local(spark: "SparkSession") -> bool:
    """Whether driver and executors are one process; False where Spark does not tell."""
    return (spark.conf.get("spark.master", None) or "").startswith("local")


def driver_heap(spark: "SparkSession") -> int | None:
    """Bytes that the driver's JVM may grow to; None where Spark does not tell."""
    if is_remote():
        return None
    runtime = spark.sparkContext._jvm.java.lang.Runtime  # type: ignore[union-attr] # noqa: SLF001
    return int(runtime.getRuntime().maxMemory())


def parallelism(spark: "SparkSession") -> int:
    """Tasks that can run at once; 1 where Spark does not tell."""
    if is_remote():
        return 1
    return int(spark.sparkContext.defaultParallelism)


def _classic_tasks(spark: "SparkSession") -> Tasks:
    from py4j.protocol import Py4JError

    def count() -> tuple[int, int]:
        try:
            tracker = spark.sparkContext.statusTracker()
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        except (PySparkException, Py4JError, AttributeError, OSError):
            return 0, 0  # a stopped session has no tracker; a clock does without
        known = [stage for stage in stages if stage is not None]
        return sum(stage.numCompletedTasks for stage in known), sum(stage.numTasks for stage in known)

    return count


def _remote_tasks(spark: "SparkSession") -> Tasks:
    """A server sends its stages with each operation's answers; the last word on them is kept."""
    last = [(0, 0)]

    def told(stages: Iterable[Any] | None, done: bool, **_: object) -> None:
        running = [stage for stage in stages or () if not stage.done]
        counts = sum(stage.num_completed_tasks for stage in running), sum(stage.num_tasks for stage in running)
        last[0] = (0, 0) if done else counts

    spark.registerProgressHandler(told)  # type: ignore[arg-type]
    return lambda: last[0]
