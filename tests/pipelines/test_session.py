"""A local session that nobody configured: on loopback alone, without a UI, whatever it starts."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Runs a job with Python workers, then says which addresses its processes listen on, as the kernel has them.
LISTENING = """
    import json, os
    from pathlib import Path
    from pipelines.engine import named_jobs, parallelism
    from pipelines.session import spark_session

    def same(batches):
        yield from batches

    def descendants(pid):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield int(child)
                yield from descendants(int(child))

    def sockets(pid):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(path)
            except OSError:
                continue
            if target.startswith("socket:["):
                yield target[8:-1]

    spark = spark_session("loopback")
    assert spark.range(100, numPartitions=2).repartition(3).mapInArrow(same, "id long").count() == 100
    ours = {inode for pid in (os.getpid(), *descendants(os.getpid())) for inode in sockets(pid)}
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in ours:
                listening.append(fields[1])
    print(json.dumps({"listening": listening, "ui": spark.sparkContext.uiWebUrl}))
"""
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.spark
@pytest.mark.e2e
def test_a_local_session_listens_on_loopback_alone_and_shows_no_page(tmp_path):
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LISTENING)],
        cwd=tmp_path, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["listening"], "Spark listens on something, so nothing was found at all"
    assert {address.partition(":")[0] for address in told["listening"]} <= LOOPBACK
    assert told["ui"] is None
