"""`make days`: three days in a row, each model going on from the one of the day before, against a new one each day.

    python -m tests.benchmarks.days --movies data/ml-100k --output out/days [--days 2026-11-20 ...] [--set a.b=v ...]

MovieLens-100k as a log that grows: a film enters the item table on the day of its first click. Each day's dataset
inherits from the one before, trains on all clicks before the day and tests on those of the day. Of each day but the
first there are three models: yesterday's as it was, yesterday's that goes on for a few epochs, and one from nothing.
Writes days.json and days.md, which it also prints. Needs what `make` sets: spark-submit's JAVA_HOME among it.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = ("1998-03-31", "1998-04-01", "1998-04-02")
WARM = ("epochs=3",)  # a quarter of what a new model is given
STALE, CONTINUED, NEW = "yesterday's", "goes on", "new"


@dataclass(frozen=True)
class Row:
    """A model on the clicks of a day. seconds: of the whole command; training_seconds: of its steps, 0 for none."""

    day: str
    model: str
    test: dict[str, float]
    cold: dict[str, float]
    seconds: float
    training_seconds: float


def main() -> None:
    """Runs it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--movies", type=Path, required=True, help="folder of MovieLens-100k, as pipelines.sources has it"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--days", nargs="+", default=list(DAYS), help="in order")
    parser.add_argument("--set", dest="settings", nargs="+", default=list(WARM), help="of models that go on")
    parser.add_argument("--seed", type=int, default=42, help="of the models")
    arguments = parser.parse_args()
    folder: Path = arguments.output
    for day in arguments.days:
        store_items(arguments.movies, day, folder / f"items/dt={day}")
    rows: list[Row] = []
    facts: dict[str, dict[str, Any]] = {}
    before: Path | None = None
    for day in arguments.days:
        facts[day] = produced(arguments.movies, folder, day)
        data = folder / f"data/dt={day}"
        seed = f"seed={arguments.seed}"
        new = folder / f"models/new/dt={day}"
        if before is None:
            rows.append(trained(day, NEW, data, new, [seed]))
            before = new
        else:
            rows.append(evaluated(day, data, before, folder / f"stale/dt={day}"))
            following = folder / f"models/warm/dt={day}"
            rows.append(trained(day, CONTINUED, data, following, [seed, *arguments.settings], before))
            rows.append(trained(day, NEW, data, new, [seed]))
            before = following
    text = report(rows, facts, arguments.settings)
    (folder / "days.json").write_text(json.dumps({"rows": [asdict(row) for row in rows], "days": facts}, indent=1))
    (folder / "days.md").write_text(text, encoding="utf-8")
    print(text)


def store_items(movies: Path, day: str, folder: Path) -> None:
    """The films that anybody had clicked on by the end of a day."""
    clicks, items = (pq.read_table(movies / f"{name}.parquet") for name in ("clicks", "items"))
    end = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) + dt.timedelta(days=1)
    known = np.unique(clicks["item_id"].to_numpy()[clicks["timestamp"].to_numpy() < end.timestamp()])
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(items.filter(pa.array(np.isin(items["item_id"].to_numpy(), known))), folder / "items.parquet")


def produced(movies: Path, folder: Path, day: str) -> dict[str, Any]:
    """Writes a day's dataset; what its manifest says of it."""
    settings = [
        f"clicks.path={movies}/clicks.parquet", f"users.path={movies}/users.parquet", "clicks.window=365d",
        f"items.path={folder}/items/dt={{date}}/items.parquet", "split={kind: time, test_from: -1d}",
        "inherit=previous", f"output.path={folder}/data",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    config = "pipelines/examples/ml-100k.yaml"
    seconds = ran(
        ["spark-submit", "pipelines/prebatch.py", "--config", config, "--date", day, "--overwrite", *options],
        folder / f"logs/prebatch-{day}.txt",
    )
    manifest = json.loads((folder / f"data/dt={day}/manifest.json").read_text(encoding="utf-8"))
    sizes = {field["name"]: field["size"] for side in ("user", "item") for field in manifest["record"][side]}
    inherited = manifest["statistics"].get("inherited", {"items": 0, "vocabulary": {}})
    clicks = {name: split["clicks"] for name, split in manifest["splits"].items()}
    return {
        "seconds": seconds,
        "clicks": {**clicks, "train": clicks["train"] // manifest["splits"]["train"]["epochs"]},
        "items": manifest["items"]["records"],
        "new_items": manifest["items"]["records"] - inherited["items"],
        "new_films_trained": sizes["item_id"] - inherited["vocabulary"].get("item_id", 1),
        "new_users": sizes["user_id"] - inherited["vocabulary"].get("user_id", 1),
    }


def trained(
    day: str, name: str, data: Path, output: Path, settings: Sequence[str], before: Path | None = None
) -> Row:  # fmt: skip
    """A model trained for a day."""
    command = [sys.executable, "-m", "trainer", "train", "--data", str(data), "--output", str(output), "--fresh"]
    command += ["--config", "trainer/examples/ml-100k.yaml", *(p for setting in settings for p in ("--set", setting))]
    command += [] if before is None else ["--warm-start", str(before)]
    seconds = ran(command, output.parent.parent.parent / f"logs/{output.parent.name}-{day}.txt")
    found = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    train = manifest["splits"]["train"]
    epochs = next(
        int(line.split()[1]) for line in (output / "config.yaml").read_text().splitlines() if line[:7] == "epochs:"
    )
    steps = epochs * train["clicks"] / train["epochs"] / found["speed"]["examples_per_second"]
    return Row(day, name, found["test"], found["cold"], seconds, round(steps, 1))


def evaluated(day: str, data: Path, model: Path, output: Path) -> Row:
    """A model as it is, on the clicks of a day."""
    command = [sys.executable, "-m", "trainer", "evaluate", "--model", str(model), "--data", str(data)]
    seconds = ran([*command, "--output", str(output)], output.parent.parent / f"logs/stale-{day}.txt")
    found = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return Row(day, STALE, found["test"], found["cold"], seconds, 0.0)


def ran(command: Sequence[str], log: Path) -> float:
    """Seconds that a command took; its output goes to a log.

    Raises:
      SystemExit: it failed.
    """
    print(f"days: {' '.join(command[:5])} ... > {log}", file=sys.stderr, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("wb") as stream:
        done = subprocess.run(command, stdout=stream, stderr=stream, check=False)
    if done.returncode:
        raise SystemExit(
            f"days: exit code {done.returncode}: {log.read_text(errors='replace').strip().splitlines()[-1]}"
        )
    return round(time.monotonic() - begun, 1)


def report(rows: Sequence[Row], facts: dict[str, dict[str, Any]], settings: Sequence[str]) -> str:
    """Two tables as Markdown."""
    lines = [
        "| day | train clicks | test clicks | films | new ones | new in training | new users | seconds to produce |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for day, found in facts.items():
        numbers = [found["clicks"]["train"], found["clicks"]["test"], found["items"], found["new_items"]]
        numbers += [found["new_films_trained"], found["new_users"]]
        lines.append(f"| {day} | {' | '.join(f'{n:,}' for n in numbers)} | {found['seconds']:.0f} |")
    lines += ["", f"Models that go on: --warm-start with {' '.join(settings)}.", ""]
    lines += [
        "| day | model | R@10 | R@50 | NDCG@10 | R@50 cold | seconds of steps | seconds in all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quality = [row.test[name] for name in ("recall@10", "recall@50", "ndcg@10")]
        cold = f"{row.cold['recall@50']:.3f} of {int(row.cold['clicks'])}" if row.cold.get("clicks") else "-"
        numbers = [*(f"{value:.3f}" for value in quality), cold, f"{row.training_seconds:.1f}", f"{row.seconds:.0f}"]
        lines.append(f"| {row.day} | {row.model} | {' | '.join(numbers)} |")
    for model in (STALE, CONTINUED, NEW):
        own = [row for row in rows if row.model == model and row.day != rows[0].day]
        if own:
            clicks = np.array([row.test["clicks"] for row in own])
            mean = [
                clicks @ [row.test[name] for row in own] / clicks.sum()
                for name in ("recall@10", "recall@50", "ndcg@10")
            ]
            steps, seconds = (sum(getattr(row, name) for row in own) for name in ("training_seconds", "seconds"))
            told = " | ".join(f"{value:.3f}" for value in mean)
            lines.append(f"| from the second on | {model} | {told} | | {steps:.1f} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
