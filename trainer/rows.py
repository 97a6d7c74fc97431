"""A row of the comparison on disk: one training run of one variant with one seed, by whatever program made it.

    <folder of the variant>/seed-<n>/result.json      the figures; written last, so a folder with it is a finished run
                                     ranks.npz        where each held-out click's item was ranked

Programs other than ours (tests/benchmarks) write the same two files and join as `peers`.

ranks.npz, all n test clicks in the order of the dataset (clicks are matched by key and positive, so only those that
share both must be in that order):
    key        bytes [n], user ids         positive   bytes [n], ids of the held-out items
    rank       int64 [n], items ahead of the positive in the catalogue, what the user had left out, ties ahead
    top        int64 [n, 10], item_index of the ten best; -1 for none

result.json (keys without a mark are required; the others show as "-" where they are missing):
    variant, seed                 what it is a run of
    test                          recall@10, recall@50, recall@100, ndcg@10, mrr, coverage@10, clicks
    validation?, cold?, warm?     the same; cold: on items with fewer than 5 training clicks, warm: on the others
    deciles?                      10 of the same, for tenths of the catalogue from the most clicked to the least
    folding?                      folding, folding@10, foreign_share, clicks (trainer/folding.py)
    seconds_to_train?             of training epochs, without validation and reports
    peak_memory_bytes?            of the process, largest
    speed?                        examples_per_second, step_ms, input_share, read_examples_per_second
    curve?                        an epoch each: epoch (from 1), seconds (training, so far), loss, validation metrics
    dataset?                      digest, fingerprint, layout, per, negatives, bytes_per_click, seconds_to_produce, ...
    configuration?                of the trainer, whole
    identity?                     digest of all that decides the run; a row of ours with another one is run again
"""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ProjectError
from schemas.files import write_atomically
from trainer.metrics import Ints

RESULT, RANKS = "result.json", "ranks.npz"
VERSION = 2  # of what a row holds; a new one makes every row be run again

Texts = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Ranks:
    """Arrays of ranks.npz; see the head of this file."""

    key: Texts
    positive: Texts
    rank: Ints
    top: Ints


@dataclass(frozen=True)
class Row:
    """A finished run."""

    result: dict[str, Any]
    ranks: Ranks


def folder(root: Path, variant: str, seed: int) -> Path:
    """Where the row of a variant and a seed lies."""
    return root / variant / f"seed-{seed}"


def seeds_in(variant: Path) -> list[int]:
    """Seeds of the finished rows in a variant's folder, rising."""
    found = (re.fullmatch(r"seed-(\d+)", path.parent.name) for path in variant.glob(f"seed-*/{RESULT}"))
    return sorted(int(match[1]) for match in found if match)


def identity(described: dict[str, Any]) -> str:
    """SHA-256 of everything that decides a run, told as plain data."""
    text = json.dumps({"version": VERSION, **described}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_finished(path: Path, wanted: str) -> bool:
    """Whether the folder holds a whole row with this identity."""
    try:
        return bool(read(path).result.get("identity") == wanted)
    except ProjectError:
        return False


def write(path: Path, row: Row) -> None:
    """Puts a row in place: nobody ever sees figures without their ranks, or those of another run."""
    (path / RESULT).unlink(missing_ok=True)
    stream = io.BytesIO()
    ranks = row.ranks
    np.savez_compressed(
        stream, allow_pickle=False, key=ranks.key, positive=ranks.positive, rank=ranks.rank, top=ranks.top
    )
    write_atomically(path / RANKS, stream.getvalue())
    write_atomically(path / RESULT, (json.dumps(row.result, indent=1, allow_nan=False) + "\n").encode())


def read(path: Path) -> Row:
    """The row in a folder.

    Raises:
      ProjectError: a file is missing or is not what the head of this file says; the message names it.
    """
    try:
        result = json.loads((path / RESULT).read_text(encoding="utf-8"))
        with np.load(path / RANKS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("key", "positive", "rank", "top")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        problem = f"{path}: {RESULT} and {RANKS} of a finished run expected: {error}; delete it and run it again"
        raise ProjectError(problem) from error
    if not isinstance(result, dict) or not isinstance(result.get("test"), dict):
        raise ProjectError(f"{path / RESULT}: `test` with the metrics expected; see trainer/rows.py")
    clicks = len(arrays["rank"])
    sizes = {"key": (clicks,), "positive": (clicks,), "rank": (clicks,), "top": (clicks, 10)}
    for name, array in arrays.items():
        kinds = "SU" if name in ("key", "positive") else "iu"
        if array.shape != sizes[name] or array.dtype.kind not in kinds:
            expected = f"{'bytes' if 'S' in kinds else 'int64'} {list(sizes[name])}"
            found = f"{array.dtype} {list(array.shape)}"
            raise ProjectError(f"{path / RANKS}: {name} of {expected} expected, {found} found; see trainer/rows.py")
    if clicks and arrays["rank"].min() < 0:
        raise ProjectError(f"{path / RANKS}: ranks from 0 expected, {arrays['rank'].min()} found; see trainer/rows.py")
    texts = {name: _encoded(arrays[name]) for name in ("key", "positive")}
    return Row(result, Ranks(texts["key"], texts["positive"], arrays["rank"].astype(np.int64), arrays["top"]))


def order(ranks: Ranks) -> Ints:
    """int64 [n]: clicks by user, then item, then as they were: the same order for every row of the same clicks."""
    return np.lexsort((ranks.positive, ranks.key)).astype(np.int64)


def _encoded(texts: npt.NDArray[Any]) -> Texts:
    return np.char.encode(texts, "utf-8") if texts.dtype.kind == "U" else texts
