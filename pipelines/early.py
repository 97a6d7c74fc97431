"""What is done before anything else is loaded, so that a small job does not wait for it later.

spark-submit puts PySpark in front of sys.path as an archive, which each process that imports it compiles anew: a second
of every job's start, and one more of its workers'. And its JVM is idle while Python loads our code, though a session of
Spark asks it for Scala's reflection, which takes it half a second.
"""

import os
import sys
from pathlib import Path


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
    """Has spark-submit's JVM, if there is one, load what a session waits for; returns at once."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        from pipelines import session

        session.wake()
