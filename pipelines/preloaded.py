"""Spark's Python daemon with all that tasks import loaded before it forks, so that no worker has to import it again.

A worker of its own would take a second for pandas, pyarrow and numpy, each of them, before it sees its first row. Only
local sessions are told of this module (pipelines/session.py): a cluster ships our code to workers, not to their daemon.
"""

import pyspark.worker  # noqa: F401 - loaded for the workers to come
from pyspark.daemon import manager

import pipelines.negatives
import pipelines.records  # noqa: F401

if __name__ == "__main__":
    manager()
