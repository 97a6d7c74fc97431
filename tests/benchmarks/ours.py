"""The product as a command to be measured: a job file for a made log, spark-submit, and what the manifest says."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.process import Usage, watched

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """A job over the log in `inputs`. history: length, 0 for none. settings: of Spark, by name."""

    inputs: Path
    output: Path
    count: int = 20
    layout: str = "block"
    per: str = "click"
    history: int = 0
    compression: str = "none"
    content: bool = False
    settings: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The job file."""
        coded = {"encode": "vocabulary"}
        item: dict[str, Any] = dict.fromkeys(("item_id", "category", "brand"), coded)
        item |= {"price": {"encode": "none"}, "tags": coded | {"shape": "list"}}
        if self.content:
            item["content"] = {"encode": "none", "shape": [64]}
        return {
            "clicks": {
                "path": str(self.inputs / "clicks.parquet"), "user": "user_id", "item": "item_id", "time": "timestamp",
            },
            "items": {"path": str(self.inputs / "items.parquet"), "key": "item_id"},
            "features": {"user": {"user_id": coded}, "item": item},
            "history": {"features": ["item_id"], "length": self.history} if self.history else {},
            "negatives": {
                "proposal": {"popularity": {"exponent": 0.75}}, "per": self.per, "count": self.count,
                "exclude": "history" if self.history else "positive",
            },
            "layout": {"kind": self.layout},
            "split": {"kind": "none"},
            "output": {"path": str(self.output), "compression": self.compression},
        }  # fmt: skip

    def run(self, limit_seconds: float | None = None) -> Usage:
        """Writes the dataset; the job file and the log stand beside it."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        path = self.output.with_suffix(".yaml")
        plain = json.loads(json.dumps(self.document()))  # yaml would write what occurs twice as an anchor
        path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        settings = [part for name, value in self.settings.items() for part in ("--conf", f"{name}={value}")]
        command = ["spark-submit", *settings, str(ROOT / "pipelines/prebatch.py"), "--config", str(path), "--overwrite"]
        return watched(command, self.output.with_suffix(".log"), limit_seconds)

    def manifest(self) -> dict[str, Any]:
        """What the finished dataset says of itself."""
        found: dict[str, Any] = json.loads((self.output / "manifest.json").read_text(encoding="utf-8"))
        return found

    def shards(self) -> list[Path]:
        """The files of training records."""
        return [self.output / shard["path"] for shard in self.manifest()["splits"]["train"]["shards"]]
