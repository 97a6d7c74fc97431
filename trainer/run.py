"""The three commands from their arguments on: each is a short story, told as it goes."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from schemas import configuration
from schemas.errors import ConfigurationError
from schemas.files import write_atomically
from schemas.manifest import Dataset
from trainer import checkpoints, continuation, dataset, evaluation, loop, recommendations, report, results
from trainer.config import Configuration
from trainer.export import export
from trainer.lock import held
from trainer.metrics import RECALLS
from trainer.raw import RawValues
from trainer.served import Served

Say = Callable[[str], None]


def train(
    uri: str, config: Configuration, output: Path, say: Say, fresh: bool = False, warm_start: Path | None = None
) -> None:
    """Trains on the dataset at `uri` and writes the model to `output`; metrics.json comes last.

    warm_start: the folder of an earlier model to go on from.

    Raises:
      ConfigurationError: an earlier model that cannot go on with this dataset, or that lies in `output` itself.
      OutputError: `output` cannot be written, or another run holds it.
    """
    started = time.perf_counter()
    if warm_start is not None and warm_start.resolve() == output.resolve():
        raise ConfigurationError(f"--warm-start {warm_start}: is the output itself; give each day a folder of its own")
    with held(output):
        data = _opened(uri, say)
        trained = loop.train(data, config, output, say, fresh, warm_start)
        say(f"best epoch {trained.progress.best_epoch + 1}; exporting, and checking the export in a fresh process")
        spec = dataset.record_spec(data, config.model.user.history_length)
        differences = export(trained, data, spec, config, output)
        found = recommendations.samples(trained.held_out["test"], trained.catalogue, trained.assessed["test"].ranking)
        resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(output / "config.yaml", resolved.encode())
        write_atomically(output / "report.html", report.page(trained, config, data, found).encode())
        widths = trained.model.user_tower.widths
        continuation.write(output, data, spec, trained.catalogue, widths)
        more = {"best_epoch": trained.progress.best_epoch + 1, "export_differences": differences}
        more["warm_start"] = None if trained.before is None else trained.before.to_json(data, trained.catalogue)
        results.write(output / "metrics.json", results.document(trained.assessed, trained.speed, data, **more))
        checkpoints.finish(output / "checkpoints")
    say(recommendations.as_text(found))
    say("")
    say(results.table(results.rows_of(trained.assessed)))
    speed = trained.speed
    say(
        f"\n{speed['examples_per_second']:,.0f} clicks a second, {speed['step_ms']:.1f} ms a step, "
        f"{speed['input_share']:.0%} of it waiting for data; {time.perf_counter() - started:.0f} s in all"
    )
    say(f"model:  {output}\nreport: {output / 'report.html'}")


def evaluate(model: Path, uri: str, output: Path, say: Say) -> None:
    """Metrics of an exported model on a dataset, from raw values through its SavedModels; writes metrics.json."""
    served = Served(model)
    config = configuration.validate(Configuration, served.configuration, source=str(model / "config.yaml"))
    data = _opened(uri, say, ("validation", "test"))
    spec = dataset.record_spec(data, config.model.user.history_length)
    raw = RawValues(data, spec)
    catalogue = dataset.read_catalogue(data, spec)
    items = served.item_vectors(catalogue, raw)
    assessed = {}
    for name in ("validation", "test"):
        held_out = dataset.read_held_out(data, spec, name)
        users = served.user_vectors(held_out, raw)
        assessed[name] = evaluation.assess(users, items, held_out, catalogue, config.evaluation.exclude_history)
    before = _read_json(model / "metrics.json")
    with held(output):
        document = results.document(assessed, before.get("speed", {}), data)
        results.write(output / "metrics.json", {**before, **document})
    say(results.table(results.rows_of(assessed)))
    say(f"metrics: {output / 'metrics.json'}")


def quality(uri: str, config: Configuration, seeds: int, output: Path, say: Say) -> None:
    """Mean and standard deviation of the test metrics over seeds 1 to `seeds`; writes quality.json."""
    rows: dict[str, dict[str, float]] = {}
    with held(output):
        data = _opened(uri, say)
        for seed in range(1, seeds + 1):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="quality-") as folder:
                run = loop.train(data, config.model_copy(update={"seed": seed}), Path(folder), _silent, fresh=True)
            rows[f"seed {seed}"] = run.assessed["test"].model
            rows["most popular"] = rows.pop("most popular", run.assessed["test"].most_popular)
            say(f"seed {seed} of {seeds}: {_recalls(rows[f'seed {seed}'])}, {time.perf_counter() - started:.0f} s")
        measured = [values for name, values in rows.items() if name.startswith("seed")]
        mean = {name: statistics.fmean(values[name] for values in measured) for name in measured[0]}
        spread = {
            name: statistics.stdev(values[name] for values in measured) if seeds > 1 else 0.0 for name in measured[0]
        }
        document = {"mean": mean, "deviation": spread, "seeds": measured, "digest": data.manifest.content_digest}
        results.write(output / "quality.json", document)
    say(results.table({**rows, "mean": mean, "deviation": {k: v for k, v in spread.items() if k != "clicks"}}))


def _opened(uri: str, say: Say, splits: tuple[str, ...] = ("train", "validation", "test")) -> Dataset:
    started = time.perf_counter()
    data = dataset.open_verified(uri, splits)
    manifest = data.manifest
    sizes = ", ".join(f"{manifest.splits[name].clicks:,} {name}" for name in splits if name in manifest.splits)
    shards = sum(len(manifest.splits[name].shards) for name in splits if name in manifest.splits)
    say(
        f"{data.uri}: {sizes} clicks on {manifest.items.records:,} items; {dataset.describe(manifest.record)}; "
        f"{shards} shards are as the manifest says, {time.perf_counter() - started:.1f} s"
    )
    return data


def _read_json(path: Path) -> dict[str, dict[str, float]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is no metrics.json: {error}; delete it") from error


def _recalls(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {values[name]:.3f}" for name in RECALLS if name in values)


def _silent(line: str) -> None:
    """Epoch lines of a run among many are left out."""
    del line
