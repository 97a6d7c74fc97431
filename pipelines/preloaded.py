"""Spark's Python daemon with all that tasks import loaded before it forks, so that no worker has to import it again.

A worker of its own would take a second for pandas, pyarrow and numpy, each of them, before it sees its first row. Only
local sessions are told of this module (pipelines/session.py): a cluster ships our code to workers, not to their daemon.
"""

from pipelines import early

early.prefer_installed()

import contextlib  # noqa: E402

import pyspark.worker  # noqa: E402, F401 - loaded for the workers to come
from pyspark.daemon import manager  # noqa: E402

import pipelines.negatives  # noqa: E402
import pipelines.records  # noqa: E402, F401

with contextlib.suppress(ImportError):
    import pandas as pd  # noqa: F401 - PyArrow imports it with the first array, where it is there

if __name__ == "__main__":
    manager()
