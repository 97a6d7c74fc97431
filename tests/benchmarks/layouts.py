"""Bytes a click, and how fast the trainer reads them: rows, blocks with own negatives, with a pool, plain and gzip.

Reading is the trainer's own, `trainer.dataset.train_batches`, up to the batches that the towers get, without a step of
training. The first batches are left out, as TensorFlow traces and fills its buffers with them.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.made_log import Log, made
from tests.benchmarks.ours import ROOT, Job
from tests.benchmarks.process import watched
from tests.benchmarks.whole_job import Say

LAYOUTS = {"row": ("row", "click"), "block": ("block", "click"), "block, pool": ("block", "block")}
COMPRESSIONS = ("none", "gzip")
POOL, BATCH, SKIPPED = 512, 512, 2


def measure(folder: Path, clicks: int, movies: Path | None, say: Say) -> list[dict[str, Any]]:
    """Figures of each layout and compression, on a made log and on MovieLens-100k where its folder is given."""
    log = made(folder, Log(clicks, 100_000, max(1_000, clicks // 10)))
    rows = []
    for data in ("100,000 items", "MovieLens-100k") if movies else ("100,000 items",):
        for name, (layout, per) in LAYOUTS.items():
            for compression in COMPRESSIONS:
                output = folder / f"layout-{layout}-{per}-{compression}"
                job = Job(log, output, POOL if per == "block" else 20, layout, per, 0, compression)
                code = job.run().code if movies is None or data == "100,000 items" else _films(job, movies)
                row: dict[str, Any] = {"data": data, "layout": name, "compression": compression}
                row |= {"failed": code, "log": str(output.with_suffix(".log"))} if code else read(output)
                rows.append(row)
                shutil.rmtree(output, ignore_errors=True)
                said = f"FAILED, see {row['log']}" if code else (
                    f"{row['bytes_a_click']:,.0f} bytes a click, {row['clicks_per_second']:,} clicks/s read"
                )  # fmt: skip
                say(f"layouts, {data}, {name}, {compression}: {said}")
    return rows


def read(folder: Path) -> dict[str, Any]:
    """Bytes a click, clicks and candidates a second of a dataset, read once by the trainer."""
    from trainer import dataset as datasets

    dataset = datasets.open_verified(str(folder))
    spec = datasets.record_spec(dataset)
    train = dataset.manifest.splits["train"]
    own = [shard.bytes for shard in train.shards if shard.epoch == 0]
    batches = datasets.train_batches(dataset, spec, 0, 1, BATCH, 4096)
    begun, seen = time.monotonic(), 0
    for number, batch in enumerate(batches):
        if number == SKIPPED:
            begun, seen = time.monotonic(), 0
        seen += int((batch.weight.numpy() > 0).sum())  # a last batch of rows is padded
    seconds = max(time.monotonic() - begun, 1e-9)
    clicks = train.clicks / train.epochs
    return {
        "bytes_a_click": round(sum(own) / clicks, 1), "negatives": spec.negatives, "clicks": int(clicks),
        "clicks_per_second": round(seen / seconds), "seconds": round(seconds, 3),
        "megabytes_per_second": round(sum(own) / 1e6 * (seen / clicks) / seconds, 1),
    }  # fmt: skip


def _films(job: Job, movies: Path) -> int:
    """Produces MovieLens-100k as its example says, but for layout, pool and compression; the exit code."""
    document = yaml.safe_load((ROOT / "pipelines/examples/ml-100k.yaml").read_text("utf-8"))
    for name in ("clicks", "items", "users"):
        document[name]["path"] = str(movies / f"{name}.parquet")
    document["negatives"] |= {"per": job.per, "count": job.count, "epochs": 1}
    document["layout"] = {"kind": job.layout}
    document["output"] = {"path": str(job.output), "shards": 4, "compression": job.compression}
    path = job.output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    command = ["spark-submit", str(ROOT / "pipelines/prebatch.py"), "--config", str(path), "--overwrite"]
    return watched(command, job.output.with_suffix(".log")).code
