"""What a local JVM is started with, and the archive of Spark's classes that halves what a small job takes.

Spark loads some fifteen thousand classes from its jars before it sees a row; parsing and verifying them is half of a
session that does nothing. A JVM can map them from a file instead (class data sharing, JEP 350), for the price of 190 MB
on disk and half a minute once. It refuses the file by itself where another Java, other jars or a folder of settings on
the class path (SPARK_CONF_DIR) make it unfit, and starts as it would without. Half of what is left is the second
compiler's, at code that runs for seconds: it is switched off (`--driver-java-options` may bring it back). Garbage is
collected while tasks wait (ParallelGC): on two cores G1 takes more from them by working beside them.

`python -m pipelines.class_archive FILE` makes the archive by a job on a few made clicks. Clusters bring their own JVMs
and their own settings; nothing here is for them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.java import ensure_java
from schemas.errors import EnvironmentProblem

NAME = "spark-classes.jsa"
_LIMIT_SECONDS = 300
_QUIET = "-Xlog:disable -Xlog:all=error:stderr"  # an archive that does not fit is no matter for the person who waits
_RUN_SHORT = "-XX:TieredStopAtLevel=1 -XX:+UseParallelGC"
# Spark hands rows to Python through Arrow's vectors, value by value, each with a check of its bounds.
_UNCHECKED = "-Darrow.enable_unsafe_memory_access=true -Darrow.enable_null_check_for_get=false"
_JOB = """
clicks:    {{path: {folder}/clicks.parquet, user: user, item: item, time: time}}
items:     {{path: {folder}/items.parquet, key: item}}
features:  {{user: {{user: {{encode: vocabulary}}}}, item: {{item: {{encode: vocabulary}}, price: {{encode: none}}}}}}
history:   {{features: [item], length: 5}}
negatives: {{proposal: {{uniform: {{}}}}, count: 2}}
split:     {{kind: leave_last}}
output:    {{path: {folder}/out}}
"""


def options(prefix: Path | None = None) -> str:
    """Options for the JVM of a local session, with the archive of this environment where it has one."""
    archive = (prefix or Path(sys.prefix)) / NAME
    always = f"{_RUN_SHORT} {_UNCHECKED}"
    return f"{always} {_QUIET} -XX:SharedArchiveFile={archive}" if archive.is_file() else always


def make(archive: Path) -> bool:
    """Whether this Java wrote an archive of what a small job loads; it appears whole or not at all.

    Raises:
      EnvironmentProblem: the job itself fails.
    """
    ensure_java()
    root = Path(__file__).resolve().parent
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        folder, written = Path(name), Path(name, NAME)
        clicks = [(user, (user * step) % 50, 900_000_000 + step) for user in range(50) for step in range(20)]
        pq.write_table(
            pa.table(list(zip(*clicks, strict=True)), names=["user", "item", "time"]), folder / "clicks.parquet"
        )
        items = {"item": range(50), "price": [float(item) for item in range(50)]}
        pq.write_table(pa.table({key: list(values) for key, values in items.items()}), folder / "items.parquet")
        (folder / "job.yaml").write_text(_JOB.format(folder=folder), encoding="utf-8")
        # Of the settings of the JVMs to come only the class path matters, which holds no folder of settings.
        environment = os.environ | {
            "SPARK_CONF_DIR": str(folder / "none"),
            "SPARK_SUBMIT_OPTS": f"{_RUN_SHORT} -XX:ArchiveClassesAtExit={written}",
        }
        command = ["spark-submit", str(root / "prebatch.py"), "--config", str(folder / "job.yaml")]
        run = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise EnvironmentProblem(f"the first job of this environment failed ({run.returncode}): {last}")
        if written.is_file():
            written.replace(archive)
        return archive.is_file()


if __name__ == "__main__":
    try:
        if not make(Path(sys.argv[1])):
            sys.stderr.write("setup: this Java keeps no archive of classes; Spark starts slower, that is all\n")
    except EnvironmentProblem as problem:
        sys.exit(f"setup: {problem}")
