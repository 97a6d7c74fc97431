"""`python -m trainer publish`: models side by side under a root, and `current` pointing at the one that serves.

    ROOT/<n>/       a model's folder with its index; its towers are user_tower/<n>/ and item_tower/<n>/
    ROOT/<n>/publication.json   what was measured and compared, and which version served before
    ROOT/current    a relative symlink to one of them

TensorFlow Serving watches a base path for folders with numbers and loads a number that it has not seen. Pointed at
ROOT/current/user_tower it finds <n> there, so a swap of `current` is a new version to it, and so is going back.

A model comes in under a hidden name, is on the disk (fsync) before it gets its number, and has its number before the
symlink is replaced by a rename: `current` is always there and always whole. A publisher that is killed leaves `current`
as it was; the next one removes what it left. One at a time: the root is locked. Costs a copy of the model.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError, OutputError, ProjectError
from schemas.files import file_sha256, sync_folder, write_atomically
from schemas.model import EMBEDDINGS, INDEX, ITEM_TOWER, METRICS, USER_TOWER, version_folder
from trainer import index
from trainer.gate import Gate
from trainer.lock import held

CURRENT, RECORD = "current", "publication.json"
INCOMING, OUTGOING = ".incoming-", ".outgoing-"
LEFT_OUT = ("logs", "latest.npz")  # what only a training run needs; hidden files besides

Say = Callable[[str], None]


def publish(model: Path, root: Path, rule: Gate, keep: int, say: Say) -> Path:
    """Publishes a model if it passes the gate, and returns the folder that `current` points at then.

    A model that is there already is not copied again, so a retry does no harm.

    Raises:
      ConfigurationError: no whole model. OutputError: another publisher is at work, or the root cannot be written.
      ProjectError: the model does not pass; `current` is as it was.
    """
    value = rule.value(model)
    _check_whole(model)
    digest = _digest(model)
    with held(root, "--to"):
        _tidy(root)
        serving = current(root)
        if serving is not None and record(serving).get("digest") == digest:
            say(f"published: {serving} already serves this model, {rule.metric} {value:.4f}")
            return serving
        before = None if serving is None else rule.value(serving)
        told = rule.check(value, before, serving)
        number, there = _number(root, digest)
        described = {
            "version": number, "previous": None if serving is None else int(serving.name), "metric": rule.metric,
            "value": value, "compared_with": before, "tolerance": rule.tolerance, "digest": digest,
            "time": int(time.time()),
        }  # fmt: skip
        folder = root / str(number)
        if not there:
            _copy(model, folder, described, digest)
        else:
            write_atomically(folder / RECORD, _json(described))
        _point(root, folder)
        _prune(root, keep)
        say(f"published: {folder}, {told}\ncurrent:   {root / CURRENT} -> {folder.name}")
    return folder


def roll_back(root: Path, say: Say) -> Path:
    """Points `current` at the version that served before the one that does, and returns its folder.

    Raises:
      ProjectError: there is none.
    """
    if not root.is_dir():
        raise ConfigurationError(f"--to {root}: expected the folder that models were published to")
    with held(root, "--to"):
        serving = current(root)
        previous = None if serving is None else record(serving).get("previous")
        if serving is None or previous is None or not (root / str(previous) / RECORD).is_file():
            kept = ", ".join(str(number) for number in _versions(root)) or "none"
            raise ProjectError(
                f"--to {root}: nothing to go back to: {CURRENT} is {'missing' if serving is None else serving.name}, "
                f"what served before it is {previous or 'nothing'}; versions there: {kept}"
            )
        folder = root / str(previous)
        _point(root, folder)
        say(f"rolled back: {root / CURRENT} -> {folder.name}, from {serving.name}, which stays there")
    return folder


def current(root: Path) -> Path | None:
    """The folder that `current` points at, None before anything was published.

    Raises:
      ProjectError: it points at nothing, or is no symlink.
    """
    pointer = root / CURRENT
    if not pointer.is_symlink():
        if pointer.exists():
            raise ProjectError(f"{pointer}: expected a symlink to a version; move it away")
        return None
    folder = root / pointer.readlink().name
    if not (folder / RECORD).is_file():
        raise ProjectError(f"{pointer}: points at {folder.name}, which is no published model; point it at one that is")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """What was written about a version when it was published."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{folder / RECORD} cannot be read: {error}") from error


def _check_whole(model: Path) -> None:
    for name in (USER_TOWER, ITEM_TOWER):
        version_folder(model / name)
    digest = index.model_digest(model)
    if (model / INDEX).exists() and index.description(model / INDEX).get("model") != digest:
        raise ConfigurationError(
            f"{model / INDEX}: was built of another model than the one beside it; build it anew with "
            "python -m trainer index"
        )


def _copied(model: Path) -> list[Path]:
    """Files of a model that go along, relative to it. Towers lie below the one version that would be served."""
    served = {name: version_folder(model / name).name for name in (USER_TOWER, ITEM_TOWER)}
    found = []
    for path in sorted(model.rglob("*")):
        relative = path.relative_to(model)
        parts = relative.parts
        if path.is_dir() or any(part.startswith(".") or part in LEFT_OUT for part in parts) or parts == (RECORD,):
            continue
        if parts[0] in served and parts[1] != served[parts[0]]:
            continue
        found.append(relative)
    return found


def _digest(model: Path) -> str:
    """SHA-256 over what makes a model answer as it does: towers, vectors, index. Its version number is not in it."""
    whole = hashlib.sha256()
    for relative in _copied(model):
        parts = relative.parts
        if parts[0] in (USER_TOWER, ITEM_TOWER):
            name = "/".join((parts[0], *parts[2:]))
        elif parts[0] in (INDEX, EMBEDDINGS, METRICS):
            name = relative.as_posix()
        else:
            continue
        whole.update(f"{name}\0{file_sha256(model / relative)}\n".encode())
    return whole.hexdigest()


def _number(root: Path, digest: str) -> tuple[int, bool]:
    """(the version number of a model, whether it is there): one more than all others unless it is."""
    versions = _versions(root)
    for number in reversed(versions):
        if record(root / str(number)).get("digest") == digest:
            return number, True
    return max(versions, default=0) + 1, False


def _versions(root: Path) -> list[int]:
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal() and (path / RECORD).is_file())


def _copy(model: Path, folder: Path, described: dict[str, Any], digest: str) -> None:
    """The model under its number; whatever fails, there is either nothing of that name or all of it."""
    incoming = folder.with_name(f"{INCOMING}{folder.name}-{os.getpid()}")
    try:
        folders = {incoming}
        for relative in _copied(model):
            parts = relative.parts
            renumbered = parts[0] in (USER_TOWER, ITEM_TOWER)
            target = incoming.joinpath(parts[0], folder.name, *parts[2:]) if renumbered else incoming / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / relative, target)
            with target.open("rb") as stream:
                os.fsync(stream.fileno())
            folders.update(parent for parent in target.parents if parent.is_relative_to(incoming))
        if _digest(incoming) != digest:
            raise ProjectError(f"--model {model}: changed while it was copied; publish again once nobody writes to it")
        write_atomically(incoming / RECORD, _json(described))
        for made in folders:
            sync_folder(made)
        incoming.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise OutputError(f"--to {folder.parent}: the model cannot be copied there: {error}") from error
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise


def _point(root: Path, folder: Path) -> None:
    """Swaps `current` in one step: a reader sees the old version or the new one, never none."""
    incoming = root / f"{INCOMING}{CURRENT}-{os.getpid()}"
    incoming.unlink(missing_ok=True)
    incoming.symlink_to(folder.name, target_is_directory=True)
    incoming.replace(root / CURRENT)
    sync_folder(root)


def _prune(root: Path, keep: int) -> None:
    """Removes all but the newest `keep` versions; the one that serves is always kept, and counted."""
    serving = current(root)
    others = [number for number in _versions(root) if serving is None or str(number) != serving.name]
    for number in others[: max(len(others) - (keep - 1), 0)]:
        gone = root / f"{OUTGOING}{number}-{os.getpid()}"  # never half a version under its number
        (root / str(number)).replace(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _tidy(root: Path) -> None:
    """Removes what killed publishers left; the lock says that none is alive."""
    for path in root.iterdir():
        if path.name.startswith((INCOMING, OUTGOING)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
