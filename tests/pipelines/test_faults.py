"""The command as a person or a scheduler starts it: exit codes, one line a fault, and disks that refuse.

Each of these is a process with a Spark of its own, so there are few of them and some run side by side.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pipelines import class_archive
from schemas.manifest import Dataset

pytestmark = [pytest.mark.spark, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "pipelines.prebatch"]
# Runs a command that may not write files beyond so many bytes; a stand-in for a full disk that needs no rights.
LIMITED = """
import os, resource, sys
limit, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
os.execvp(command[0], command)
"""


def started(command, document, folder, *options, limit=None, name="job.yaml"):
    """The process of a command with this job file, in the repository's folder; it may write files of `limit` bytes."""
    path = folder / name
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    from pipelines.java import ensure_java

    ensure_java()
    tools = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SUBMIT_OPTS": f"-Dlog4j2.configurationFile={ROOT}/pipelines/log4j2.properties {class_archive.options()}",
        "SPARK_CONF_DIR": str(ROOT / "none"),
    }
    limited = [] if limit is None else [sys.executable, "-c", LIMITED, str(limit)]
    return subprocess.Popen(
        [*limited, *command, "--config", str(path), *options], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process):
    """(exit code, stdout, the lines of the error), with nothing like a trace anywhere."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert "Traceback" not in out + err, err
    assert not re.search(r"^\s+at [\w.$]+\(", err, re.MULTILINE), err
    return process.returncode, out, [line for line in err.splitlines() if line.startswith("error:")]


def untouched(folder):
    return not folder.exists() or sorted(path.name for path in folder.rglob("*")) == []


def test_spark_submit_on_one_core_writes_the_same_dataset(tmp_path, world_job, block):
    submit = [shutil.which("spark-submit", path=str(Path(sys.executable).parent)) or "spark-submit"]
    command = [*submit, "--master", "local[1]", str(ROOT / "pipelines" / "prebatch.py")]
    document = world_job(layout={"kind": "block", "clicks": 32})
    process = started(command, document, tmp_path, "--output", str(tmp_path / "out"), "--set", "output.shards=3")
    code, out, errors = ended(process)
    assert (code, errors) == (0, [])
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.manifest.content_digest == block.manifest.content_digest
    assert len(dataset.manifest.splits["test"].shards) == 3
    assert dataset.manifest.content_digest in out


def test_faults_end_with_their_code_and_one_line(tmp_path, jobs, world_job, row):
    """An output that is taken, and an input that lacks a column, side by side."""
    taken = world_job()
    lacking = world_job()
    lacking["clicks"] |= {"time": "when"}
    output = str(tmp_path / "new")
    processes = [
        started(MODULE, taken, tmp_path, "--output", str(row.root), name="taken.yaml"),
        started(MODULE, lacking, tmp_path, "--output", output, name="lacking.yaml"),
    ]
    (first, _, taken_lines), (second, _, lacking_lines) = map(ended, processes)
    assert (first, second) == (4, 3)
    assert [line.startswith(f"error: {row.root} holds a dataset already") for line in taken_lines] == [True]
    assert [line.startswith("error: clicks.time: no column 'when'") for line in lacking_lines] == [True]
    assert untouched(Path(output))
    assert Dataset.open(row.root).manifest.content_digest == row.manifest.content_digest


def test_bad_configuration_is_found_before_spark_starts(tmp_path, world_job):
    document = world_job()
    document["negatives"] |= {"cuont": 3}
    process = started(MODULE, document, tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "negatives.cuont: unknown key; did you mean 'count'?" in err
    assert "Spark" not in err
    assert "Traceback" not in err


def test_a_disk_that_fills_while_shards_are_written(tmp_path, jobs):
    """Files may not grow beyond 2 MB, for Spark neither; shards of 6 MB must fail, and leave what was there."""
    rng = np.random.default_rng(0)
    clicks = [(int(user), int(item), 900_000_000) for user, item in rng.integers(0, 500, (600, 2))]
    items = pa.table({"item_id": pa.array(range(500)), "content": [[0.5] * 32] * 500})
    document = jobs.document(jobs.inputs(clicks, items), negatives={"proposal": {"uniform": {}}, "count": 100})
    document["features"] = {"item": {"content": {"encode": "none", "shape": [32]}}}
    document["history"] = {"features": []}
    output = tmp_path / "out"
    code, _, errors = ended(started(MODULE, document, tmp_path, "--output", str(output), limit=2 << 20))
    assert code == 1
    (line,) = errors
    assert re.match(rf"error: writing {output}/train/part-\S+ failed: File too large; make room there", line), line
    assert untouched(output)
