"""Goes on from an earlier model (`--warm-start`): its weights, its tables grown by the rows of what is new since.

    models/D-1/trained_on.json        what the model's indices meant: features, vocabularies and items as digests
    models/D-1/checkpoints/best.npz   its weights

A row of a table means what a line of a vocabulary says. So every vocabulary of the earlier dataset must be the
beginning of today's, which `inherit` in the producer's job file sees to, and features and towers must be the same; what
is not is told before anything is trained. Rows of new values start as in a new model. Adam starts anew for all rows,
and with it the schedule of the learning rate: a day's training is a whole one, if a short one.

User features whose vector is as wide as they have values keep the width they had on the first day.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from schemas.errors import ConfigurationError, ProjectError
from schemas.files import write_atomically
from schemas.manifest import Dataset
from schemas.record import Field, RecordSpec
from trainer import checkpoints
from trainer.config import Configuration
from trainer.dataset import Catalogue

TRAINED_ON = "trained_on.json"
GROWING = ("table", "weights_matrix", "biases")  # variables with a row for each value or item


@dataclass(frozen=True)
class Continuation:
    """An earlier model to go on from. weights: its variables. told: what its trained_on.json says."""

    folder: Path
    weights: list[npt.NDArray[Any]]
    told: dict[str, Any]

    @property
    def widths(self) -> dict[str, int]:
        """Numbers of each user feature's vector."""
        return dict(self.told["user_widths"])

    @property
    def digest(self) -> str:
        """Of the weights."""
        found = hashlib.sha256()
        for array in self.weights:
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def put_into(self, variables: list[Any]) -> None:
        """Gives the variables of a new model the earlier one's weights; rows that are new stay as they are.

        Raises:
          ConfigurationError: the models' variables do not fit.
        """
        if len(variables) != len(self.weights):
            raise _refused(self.folder, f"it has {len(self.weights)} variables, today's model {len(variables)}")
        for variable, stored in zip(variables, self.weights, strict=True):
            own = np.array(variable.numpy())
            rows = len(stored) if variable.name in GROWING else None
            if own[:rows].shape != stored.shape if own.ndim else own.shape != stored.shape:
                raise _refused(self.folder, f"{variable.path} is {list(stored.shape)} there and {list(own.shape)} here")
            if own.ndim:
                own[:rows] = stored
            variable.assign(own if own.ndim else stored)

    def to_json(self, data: Dataset, catalogue: Catalogue) -> dict[str, Any]:
        """The `warm_start` of metrics.json: the model, what it was trained on, and what is new since."""
        before = self.told["vocabulary"]
        new = {name: len(data.vocabulary(name)) - entry["values"] for name, entry in before.items()}
        return {
            "model": str(self.folder),
            "dataset": self.told["content_digest"],
            "new_values": new,
            "new_items": len(catalogue) - self.told["items"]["count"],
        }


def write(output: Path, data: Dataset, spec: RecordSpec, catalogue: Catalogue, widths: Mapping[str, int]) -> None:
    """Leaves trained_on.json beside a model, for later ones to go on from it."""
    document = {
        "content_digest": data.manifest.content_digest,
        "record": spec.to_json(),
        "vocabulary": {
            name: {"values": len(data.vocabulary(name)), **_digest(data.verify(file).read_bytes())}
            for name, file in data.manifest.vocabulary.items()
        },
        "items": {"count": len(catalogue), "sha256": _keys_digest(catalogue.key)},
        "user_widths": dict(widths),
    }
    write_atomically(output / TRAINED_ON, (json.dumps(document, indent=1) + "\n").encode())


def of(folder: Path, data: Dataset, spec: RecordSpec, catalogue: Catalogue, config: Configuration) -> Continuation:
    """The model in a folder, once it is known that it can go on with `data`.

    Raises:
      ConfigurationError: there is none, or features, vocabularies, items or towers are not a continuation of its.
    """
    try:
        told = json.loads((folder / TRAINED_ON).read_text(encoding="utf-8"))
        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        before = RecordSpec.from_json(told["record"])
        vocabulary, items = dict(told["vocabulary"]), dict(told["items"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"--warm-start {folder}: expected a model that python -m trainer train wrote, with {TRAINED_ON} and "
            f"config.yaml ({error})"
        ) from error
    problems = [
        *_model_problems(dict(settings).get("model", {}), config.model.model_dump(mode="json")),
        *_feature_problems(before, spec),
        *_vocabulary_problems(vocabulary, data),
    ]
    if config.model.item.kind == "matrix" and _keys_digest(catalogue.key[: items["count"]]) != items["sha256"]:
        problems.append("items are numbered otherwise than in the earlier dataset")
    if problems:
        raise _refused(folder, problems[0])
    try:
        weights = checkpoints.load(folder / "checkpoints" / checkpoints.BEST)[0]
    except ProjectError as error:
        raise ConfigurationError(f"--warm-start {folder}: {error}") from error
    return Continuation(folder, weights, told)


def _refused(folder: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"--warm-start {folder}: cannot go on from it: {problem}; produce the dataset with inherit, from the one that "
        "this model was trained on, with the same features and towers, or train without --warm-start"
    )


def _model_problems(there: Any, here: Any, path: str = "model") -> Iterable[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys((*there, *here)):
            yield from _model_problems(there.get(name), here.get(name), f"{path}.{name}")
    elif there != here and not path.endswith("dropout"):  # which makes no shape and no meaning
        yield f"{path} is {there!r} there and {here!r} here"


def _feature_problems(there: RecordSpec, here: RecordSpec) -> Iterable[str]:
    for side in ("user", "item"):
        before, now = (tuple(map(_sizeless, getattr(spec, side))) for spec in (there, here))
        if before != now:
            names = [[field.name for field in fields] for fields in (before, now)]
            differing = [name for name, a, b in zip(names[0], before, now, strict=False) if a != b]
            yield (
                f"{side} features are {names[0]} there and {names[1]} here"
                if names[0] != names[1]
                else (f"{side} feature {differing[0]!r} is encoded otherwise there")
            )
    if there.history != here.history:
        yield f"histories hold {list(there.history)} there and {list(here.history)} here"


def _sizeless(field: Field) -> Field:
    return dataclasses.replace(field, size=0)


def _vocabulary_problems(before: Mapping[str, Any], data: Dataset) -> Iterable[str]:
    """Vocabularies of the earlier model that are not the beginning of today's."""
    for name, entry in before.items():
        file = data.manifest.vocabulary.get(name)
        if file is None:
            yield f"the dataset has no vocabulary of {name!r}"
        elif _digest(data.verify(file).read_bytes()[: entry["bytes"]]) != {k: entry[k] for k in ("bytes", "sha256")}:
            yield f"the vocabulary of {name!r} does not begin with the {entry['values']:,} values it had there"


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _keys_digest(keys: list[bytes]) -> str:
    found = hashlib.sha256()
    for key in keys:
        found.update(len(key).to_bytes(8, "little") + key)
    return found.hexdigest()
