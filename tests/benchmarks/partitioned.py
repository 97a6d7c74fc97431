"""A catalogue larger than a worker's memory: seconds, peak memory and shuffled bytes of a job, mapped or partitioned.

    python -m tests.benchmarks.partitioned FOLDER --items 5000000 --width 64 --clicks 300000 --kind partitioned

Inputs are made once below FOLDER. Memory is polled from /proc (Linux): of each Python worker and of the driver, all
that is resident, and without pages of mapped files, which workers share. Shuffled bytes are those of Spark's event log,
by what a stage writes. One JSON document on stdout.
"""

import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1 << 18


def inputs(folder, items, width, clicks, users):
    """Paths of an item table with vectors and of clicks that fall on items by a power law."""
    random = np.random.default_rng(1)
    item_path, click_path = folder / f"items-{items}-{width}", folder / f"clicks-{items}-{clicks}.parquet"
    if not item_path.exists():
        staged = folder / "_items"
        staged.mkdir(parents=True)
        ids = random.permutation(items)
        for part, begin in enumerate(range(0, items, ROWS)):
            own = ids[begin : begin + ROWS]
            vectors = random.random((len(own), width), np.float32)
            offsets = np.arange(0, vectors.size + 1, width, dtype=np.int32)
            table = pa.table({
                "item_id": own,
                "category": random.integers(0, 1_000, len(own)),
                "content": pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1))),
            })  # fmt: skip
            pq.write_table(table, staged / f"part-{part}.parquet", compression="none")
        staged.rename(item_path)
    if not click_path.exists():
        rank = np.minimum(random.pareto(0.6, clicks) * 20, items - 1).astype(np.int64)
        columns = {
            "user_id": random.integers(0, users, clicks),
            "item_id": rank * 7_919 % items,
            "timestamp": 1_500_000_000 + random.integers(0, 10**7, clicks),
        }
        pq.write_table(pa.table(columns), click_path)
    return str(item_path), str(click_path)


class Memory(threading.Thread):
    """Polls the processes below this one: peaks in MB, by what they are."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peaks, self.ended = {}, threading.Event()

    def run(self):
        while not self.ended.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                self._look(process)

    def _look(self, process):
        try:
            line = (process / "cmdline").read_bytes()
            environ = (process / "environ").read_bytes()
            status = dict(row.split(":\t", 1) for row in (process / "status").read_text().splitlines())
        except (OSError, ValueError):
            return
        if f"BENCHMARK={os.getpid()}".encode() not in environ or "RssAnon" not in status:
            return
        name = "worker" if b"pyspark" in line and b"java" not in line else "jvm" if b"java" in line else "other"
        for kind in ("VmRSS", "RssAnon"):
            key = f"{name} {kind}"
            self.peaks[key] = max(self.peaks.get(key, 0), int(status[kind].split()[0]) // 1024)


def shuffled(folder):
    """Bytes that stages wrote into shuffles, by stage, and the seconds of CPU that tasks took."""
    found: dict[int, int] = {}
    seconds = 0.0
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith((".", "appstatus")):
            for row in path.read_text(encoding="utf-8").splitlines():
                if '"SparkListenerTaskEnd"' in row:
                    event = json.loads(row)
                    metrics = event.get("Task Metrics") or {}
                    written = metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
                    found[event["Stage ID"]] = found.get(event["Stage ID"], 0) + written
                    seconds += metrics.get("Executor Run Time", 0) / 1000
    return {str(stage): size for stage, size in sorted(found.items()) if size}, seconds


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--items", default=5_000_000)
@click.option("--width", default=64)
@click.option("--clicks", default=300_000)
@click.option("--kind", default="partitioned")
@click.option("--negatives", default=20)
@click.option("--layout", type=click.Choice(["row", "block"]), default="block")
def main(folder, items, width, clicks, kind, negatives, layout):
    """Run one job and say what it took."""
    os.environ["BENCHMARK"] = str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    item_path, click_path = inputs(folder, items, width, clicks, max(1, clicks // 10))
    from pyspark import SparkConf, SparkContext

    from pipelines import job
    from pipelines.config import Config
    from pipelines.java import ensure_java
    from pipelines.progress import Progress
    from pipelines.session import spark_session
    from schemas import configuration

    ensure_java()
    log = folder / "_events"
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir()
    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.driver.memory", "2g")
    conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    conf.set("spark.eventLog.enabled", "true").set("spark.eventLog.dir", log.resolve().as_uri())
    conf.set("spark.eventLog.compress", "false").set("spark.local.dir", str(folder.resolve() / "_spark"))
    SparkContext.getOrCreate(conf)
    spark = spark_session("benchmark")
    document = {
        "clicks": {"path": click_path, "user": "user_id", "item": "item_id", "time": "timestamp"},
        "items": {"path": item_path, "key": "item_id", "format": "parquet"},
        "catalogue": {"kind": kind},
        "features": {
            "item": {
                "item_id": {"encode": "vocabulary"},
                "category": {"encode": "vocabulary"},
                "content": {"encode": "none", "shape": [width]},
            }
        },
        "negatives": {
            "proposal": {"mixture": [{"popularity": {}, "share": 0.9}, {"uniform": {}, "share": 0.1}]},
            "count": negatives,
        },
        "layout": {"kind": "row"} if layout == "row" else {"kind": "block", "clicks": 512},
        "output": {"path": str(folder / "_out"), "shards": 8},
    }
    memory, begun = Memory(), time.monotonic()
    memory.start()
    dataset = job.run(spark, configuration.validate(Config, document, "benchmark"), True, Progress())
    seconds = time.monotonic() - begun
    memory.ended.set()
    memory.join()
    spark.stop()
    stages, task_seconds = shuffled(log)
    manifest = dataset.manifest
    click.echo(json.dumps({
        "kind": kind, "items": items, "width": width, "clicks": clicks, "layout": layout, "negatives": negatives,
        "catalogue": manifest.statistics["catalogue"], "seconds": round(seconds, 1),
        "task_seconds": round(task_seconds),
        "step_seconds": manifest.timings_seconds, "peak_mb": memory.peaks,
        "driver_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bytes_written": {"train": manifest.splits["train"].bytes, "items": manifest.items.bytes},
        "shuffle_bytes": sum(stages.values()), "shuffle_bytes_by_stage": stages, "digest": manifest.content_digest,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
