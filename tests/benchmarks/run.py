"""`make bench`: the encoder, whole jobs against what people write, growth, layouts; half an hour, SMALL=1 two minutes.

    python -m tests.benchmarks.run --output out/bench [--small] [--only whole growth] [--limit-seconds N]

Writes bench.json, bench.md (also printed), bench.html and one SVG a plot. Needs spark-submit on PATH and JAVA_HOME, as
`make` sets them. Figures of a machine that does other things at the same time are worth little: ratios hold best.
"""

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import growth, layouts, report, whole_job

PARTS = ("encoder", "whole", "growth", "layouts")


@dataclass(frozen=True)
class Scale:
    """How much is measured. whole: repetitions by clicks. layouts: clicks of the made log."""

    whole: dict[int, int]
    growth: dict[str, list[int]]
    skewed: int
    layouts: int


LARGE = Scale(
    {200_000: 3, 1_000_000: 1},
    {
        "clicks": [200_000, 1_000_000, 5_000_000],
        "negatives": [20, 100, 1_000],
        "items": [100_000, 1_000_000, 5_000_000],
    },
    1_500_000,
    200_000,
)
SMALL = Scale({20_000: 1}, {"clicks": [20_000], "negatives": [100], "items": [20_000]}, 60_000, 20_000)


def main() -> None:
    """Measures the parts that are asked for; what was measured before stays in bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--movies", type=Path, help="folder of MovieLens-100k, as pipelines.sources writes it")
    parser.add_argument("--small", action="store_true", help="tiny sizes: whether it works, not how fast it is")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit-seconds", type=float, default=whole_job.LIMIT_SECONDS, help="of one run of a program")
    parser.add_argument("--tuned", action="store_true", help="give the others the options of our JVM")
    arguments = parser.parse_args()
    work: Path = arguments.output.absolute() / "work"
    work.mkdir(parents=True, exist_ok=True)
    scale, begun = SMALL if arguments.small else LARGE, time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)

    say("about ten minutes" if arguments.small else "about half an hour on two quiet cores; each line is a run")
    measured: dict[str, Callable[[], Any]] = {
        "encoder": lambda: encoder(work / "encoder", 1 if arguments.small else 5),
        "whole": lambda: whole_job.measure(work, scale.whole, say, arguments.limit_seconds, arguments.tuned),
        "growth": lambda: growth.measure(work, scale.growth, scale.skewed, say),
        "layouts": lambda: layouts.measure(work, scale.layouts, arguments.movies, say),
    }
    path = arguments.output / "bench.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for part in arguments.only:
        found[part] = measured[part]()
        found |= {"machine": machine(), "small": arguments.small}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print("\n" + report.write(found, arguments.output))
    say(f"written to {arguments.output}: bench.md, bench.json, bench.html, *.svg")


def encoder(folder: Path, rounds: int) -> dict[str, Any]:
    """The encoder's figures; loaded only here, as it brings TensorFlow with it."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = importlib.import_module("tests.benchmarks.encoder").measure(folder, rounds=rounds)
    return found


def machine() -> dict[str, Any]:
    """What the figures are of."""
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


if __name__ == "__main__":
    main()
