"""What is done before anything else is loaded, so that a small job does not wait for it later.

spark-submit puts PySpark in front of sys.path as an archive, which each process that imports it compiles anew: a second
of every job's start, and one more of its workers'. And its JVM is idle while Python loads our code, though a session of
Spark asks it for Scala's reflection, which takes it half a second.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any


def prefer_installed() -> None:
    """Takes Spark's archives from sys.path where SPARK_HOME is an installed package, which holds the same modules.

    A distribution of Spark, which has no such package, stays as it is.
    """
    home = Path(os.environ.get("SPARK_HOME", ""))
    if not (home / "__init__.py").is_file() or str(home.parent) not in sys.path:
        return
    archives = home / "python" / "lib"
    sys.path[:] = [path for path in sys.path if Path(path).parent != archives]


def wake_jvm() -> None:
    """Has spark-submit's JVM, if there is one, load Scala's reflection; returns at once."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    # Imported here, not by the thread: PySpark's modules import each other, which two threads must not do at once.
    from pyspark import SparkContext

    def load() -> None:
        with contextlib.suppress(Exception):  # whatever is wrong, the session will say
            SparkContext._ensure_initialized()  # noqa: SLF001 - connects to the JVM
            jvm: Any = SparkContext._jvm  # noqa: SLF001
            getattr(getattr(jvm.scala.reflect.runtime, "package$"), "MODULE$").universe()

    threading.Thread(target=load, name="wake", daemon=True).start()
