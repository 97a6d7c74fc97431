"""Spark's Python daemon with all that tasks import loaded before it forks, so that no worker has to import it again.

A worker of its own would take a second for pandas, pyarrow and numpy, each of them, before it sees its first row. Only
local sessions are told of this module (pipelines/session.py): a cluster ships our code to workers, not to their daemon.
"""

from pipelines import early

early.prefer_installed()

import pandas as pd  # noqa: E402, F401 - PyArrow imports it at the first array
import pyspark.worker  # noqa: E402, F401 - loaded for the workers to come
from pyspark.daemon import manager  # noqa: E402

import pipelines.negatives  # noqa: E402
import pipelines.records  # noqa: E402, F401

if __name__ == "__main__":
    manager()
