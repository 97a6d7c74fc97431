"""The story of a training run: epochs over the dataset, validation after each, a checkpoint, and the best one kept."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from schemas.errors import ConfigurationError, CorruptDataset, ProjectError
from schemas.manifest import Dataset
from schemas.record import RecordSpec
from trainer import checkpoints, continuation, dataset, evaluation
from trainer.checkpoints import Progress
from trainer.config import Configuration
from trainer.continuation import Continuation
from trainer.dataset import Catalogue, HeldOut
from trainer.evaluation import Assessment
from trainer.metrics import RECALLS, Floats
from trainer.scalars import Scalars
from trainer.step import TrainStep
from trainer.towers import TwoTowers

log = logging.getLogger(__name__)

SECONDS_OF_SILENCE = 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A finished run: the model with the weights of its best epoch, and everything measured. before: the earlier model
    that it went on from.
    """

    model: TwoTowers
    progress: Progress
    catalogue: Catalogue
    held_out: dict[str, HeldOut]
    users: dict[str, Floats]
    items: Floats
    assessed: dict[str, Assessment]
    before: Continuation | None = None

    @property
    def speed(self) -> dict[str, float]:
        """examples_per_second, step_ms (with reading), and input_share: the part of a step spent waiting for data."""
        progress = self.progress
        seconds = progress.step_seconds or math.inf
        return {
            "examples_per_second": progress.examples / seconds,
            "step_ms": 1000 * progress.step_seconds / max(progress.steps, 1),
            "input_share": progress.input_seconds / seconds,
        }


def train(
    data: Dataset, config: Configuration, folder: Path, say: Say, fresh: bool = False, warm_start: Path | None = None
) -> Trained:
    """Trains on `data`, keeping checkpoints and logs in `folder`, and assesses the best epoch on the held-out clicks.

    Deterministic on one machine given (data, config, warm_start); a run that was killed goes on where its last epoch
    ended. warm_start: the folder of a model whose weights this one begins with.

    Raises:
      ConfigurationError: a model that cannot go on with this data.
      ProjectError: no train records, a layout that is not read, a loss that is no number, an unusable checkpoint.
    """
    spec = dataset.record_spec(data, config.model.user.history_length)
    total = sum(dataset.steps_in_epoch(data, epoch, config.batch) for epoch in range(config.epochs))
    if not total:
        raise ProjectError(f"{data.uri}: the train split has no records; check the producer's split and limits")
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy("float32" if config.precision == "float32" else "mixed_bfloat16")
    catalogue = dataset.read_catalogue(data, spec)
    _check_ranks(data, config, catalogue)
    before = None if warm_start is None else continuation.of(warm_start, data, spec, catalogue, config)
    widths = None if before is None else before.widths
    model = TwoTowers(spec, config.model, config.seed, data.manifest.items.records, widths)
    if before is not None:
        before.put_into(model.variables)
    step = TrainStep(model, config, total, catalogue)
    watched = dataset.read_held_out(data, spec, "validation", config.evaluation.validation_clicks)
    latest, best = (folder / "checkpoints" / name for name in (checkpoints.LATEST, checkpoints.BEST))
    progress = _started(step, latest, run_digest(data, config, before), config, say, fresh)

    with Scalars(folder / "logs", fresh=progress.epoch == 0) as scalars:
        while progress.epoch < config.epochs and not _stalled(progress, config):
            values = _epoch(step, data, spec, config, progress, say)
            values |= _validated(model, watched, catalogue, config)
            progress.curve.append(values)
            # Without validation clicks the last epoch is the best.
            value = values.get(config.evaluation.best_by, float(progress.epoch))
            if value > progress.best_value:
                progress.best_value, progress.best_epoch = value, progress.epoch
                checkpoints.save(best, model.variables, progress)
            progress.epoch += 1
            progress.sizes = dict(step.sizes)
            checkpoints.save(latest, step.variables, progress)
            scalars.write(progress.epoch, values)
            say(_line(progress, config, values))

    checkpoints.assign(model.variables, checkpoints.load(best)[0], best)
    return _assessed(data, config, model, progress, catalogue, before)


def _check_ranks(data: Dataset, config: Configuration, catalogue: Catalogue) -> None:
    """Raises a ConfigurationError where candidates are drawn by rank, but indices are those of an earlier day."""
    by_rank = getattr(config.loss, "sampler", None) == "log_uniform"
    if by_rank and "inherited" in data.manifest.statistics and (np.diff(catalogue.count) > 0).any():
        raise ConfigurationError(
            f"loss.sampler log_uniform takes items as numbered by falling training clicks, but {data.root} inherits "
            "its indices from an earlier dataset; set loss.sampler to fixed_unigram or uniform"
        )


def run_digest(data: Dataset, config: Configuration, before: Continuation | None = None) -> str:
    """What a checkpoint must share with a run to be its own: records, the whole configuration, what it began with."""
    manifest = data.manifest
    described = [manifest.schema_fingerprint, manifest.content_digest, config.model_dump(mode="json")]
    if before is not None:
        described.append(before.digest)
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _started(step: TrainStep, latest: Path, run: str, config: Configuration, say: Say, fresh: bool) -> Progress:
    """The state of this run where it was interrupted, put into `step`; else that of a new one."""
    progress = None if fresh else checkpoints.restore(latest, step.variables, run)
    if progress is None:
        return Progress(run)
    step.sizes.update(progress.sizes)
    say(f"going on after epoch {progress.epoch} of {config.epochs} from {latest}; --fresh starts anew")
    return progress


def _epoch(
    step: TrainStep, data: Dataset, spec: RecordSpec, config: Configuration, progress: Progress, say: Say
) -> dict[str, float]:
    """The mean loss and the seconds of an epoch; adds its steps to the speed in `progress`."""
    steps = dataset.steps_in_epoch(data, progress.epoch, config.batch)
    iterator = iter(
        dataset.train_batches(data, spec, progress.epoch, config.seed, config.batch, config.shuffle_records)
    )
    started = told = time.perf_counter()
    total, count = 0.0, 0
    # Handing a batch to Python takes a millisecond, which another thread spends while the step runs.
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(next, iterator, None)
        while True:
            asked = time.perf_counter()
            try:
                batch = following.result()
            except dataset.READ_ERRORS as error:
                problem = f"a train shard cannot be read after {count} batches: {error}; write the dataset anew"
                raise CorruptDataset(problem) from error
            if batch is None:
                return {"loss": total / max(count, 1), "seconds": time.perf_counter() - started}
            following = ahead.submit(next, iterator, None)
            got = time.perf_counter()
            loss = step(batch)
            if not math.isfinite(loss):
                raise ProjectError(
                    f"the loss is {loss} at step {count} of epoch {progress.epoch + 1}; a finite number expected: "
                    "lower optimizer.learning_rate, or set optimizer.clip_norm=1"
                )
            total, count = total + loss, count + 1
            now = time.perf_counter()
            if count > 1 and not step.compiled:  # the first step of an epoch waits for the shuffle buffer to fill
                progress.steps += 1
                progress.examples += int(np.count_nonzero(batch.weight))
                progress.input_seconds += got - asked
                progress.step_seconds += now - asked
            if now - told > SECONDS_OF_SILENCE:
                told = now
                say(f"epoch {progress.epoch + 1}: step {count:,} of {steps:,}, loss {total / count:.4f}")


def _validated(model: TwoTowers, watched: HeldOut, catalogue: Catalogue, config: Configuration) -> dict[str, float]:
    """Metrics on the validation clicks; empty where there are none."""
    if not len(watched):
        return {}
    users, items = evaluation.user_vectors(model, watched), evaluation.item_vectors(model, catalogue)
    return evaluation.quick(users, items, watched, config.evaluation.exclude_history, catalogue.gone)


def _assessed(
    data: Dataset, config: Configuration, model: TwoTowers, progress: Progress, catalogue: Catalogue,
    before: Continuation | None,
) -> Trained:  # fmt: skip
    spec = dataset.record_spec(data, config.model.user.history_length)
    held_out = {name: dataset.read_held_out(data, spec, name) for name in ("validation", "test")}
    items = evaluation.item_vectors(model, catalogue)
    users = {name: evaluation.user_vectors(model, split) for name, split in held_out.items()}
    exclude = config.evaluation.exclude_history
    assessed = {name: evaluation.assess(users[name], items, held_out[name], catalogue, exclude) for name in held_out}
    return Trained(model, progress, catalogue, held_out, users, items, assessed, before)


def _stalled(progress: Progress, config: Configuration) -> bool:
    patience = config.evaluation.patience
    return patience is not None and progress.epoch - 1 - progress.best_epoch >= patience


def _line(progress: Progress, config: Configuration, values: dict[str, float]) -> str:
    """One epoch as a line: loss, validation metrics, time; a star marks the best so far."""
    star = " *" if progress.best_epoch == progress.epoch - 1 and "recall" in values else ""
    shown = "".join(f"  {name} {values[name]:.3f}" for name in RECALLS if name in values)
    return (
        f"epoch {progress.epoch:>2}/{config.epochs}  loss {values['loss']:.4f}{shown}  {values['seconds']:.1f} s{star}"
    )
