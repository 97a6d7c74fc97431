"""Resumes a run that was killed: after every epoch all of its state goes to one file, put in place by a rename.

A plain .npz: weights, Adam's moments, the counters of dropout's random numbers, and what was measured so far. The order
of the data needs no state, as (seed, epoch) decides it. So a resumed run ends as an undisturbed one would.
"""

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ProjectError
from schemas.files import write_atomically

LATEST = "latest.npz"
BEST = "best.npz"


@dataclass
class Progress:
    """What a run has measured. run: says which data and configuration it is a run of. epoch: the next one to train."""

    run: str
    epoch: int = 0
    best_epoch: int = -1
    best_value: float = float("-inf")
    curve: list[dict[str, float]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    step_seconds: float = 0.0
    input_seconds: float = 0.0
    examples: int = 0


def save(path: Path, variables: list[Any], progress: Progress) -> None:
    """Writes a checkpoint; a crash leaves the one before it."""
    arrays: dict[str, Any] = {f"{i:04d}": _storable(variable.numpy()) for i, variable in enumerate(variables)}
    arrays["progress"] = np.array(json.dumps(asdict(progress)))
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    write_atomically(path, stream.getvalue())


def load(path: Path) -> tuple[list[npt.NDArray[Any]], Progress]:
    """Arrays and progress of a checkpoint.

    Raises:
      ProjectError: the file is no checkpoint; delete it, or start anew with --fresh.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            progress = Progress(**json.loads(str(stored["progress"])))
            names = sorted(name for name in stored.files if name != "progress")
            return [stored[name] for name in names], progress
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ProjectError(f"{path} is no checkpoint of this trainer ({error}); start anew with --fresh") from error


def restore(path: Path, variables: list[Any], run: str) -> Progress | None:
    """Puts the state of an unfinished `run` into `variables`; None, and nothing touched, where there is none."""
    if not path.exists():
        return None
    arrays, progress = load(path)
    if progress.run != run:
        return None
    assign(variables, arrays, path)
    return progress


def assign(variables: list[Any], arrays: list[npt.NDArray[Any]], path: Path) -> None:
    """Puts stored arrays into variables of the same shapes."""
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise ProjectError(f"{path} was written by another model; start anew with --fresh")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def finish(folder: Path) -> None:
    """Drops the state to resume from once a run is complete; the weights of its best epoch stay."""
    (folder / LATEST).unlink(missing_ok=True)


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float32) if array.dtype.kind == "V" else array
