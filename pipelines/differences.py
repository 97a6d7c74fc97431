"""What one job file says otherwise than another, for datasets that go on from what an earlier one has written."""

from collections.abc import Collection, Iterator
from typing import Any

from pipelines.config import Config
from schemas import configuration

Free = Collection[tuple[str, ...]]


def resolved(document: dict[str, Any]) -> dict[str, Any]:
    """A job file as it would be resolved today, so that keys which are new since have their defaults."""
    config = configuration.validate(Config, document, "the dataset's job file")
    return config.model_dump(mode="json", exclude_none=True)


def differences(old: Any, new: Any, free: Free = (), path: tuple[str, ...] = ()) -> Iterator[str]:
    """What two job files say differently, a sentence a key; keys whose path is in `free` may differ."""
    if path in free:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from differences(old.get(name), new.get(name), free, (*path, name))
        # Records hold features in the order of the job file.
        if path[:1] == ("features",) and list(old) != list(new) and old.keys() == new.keys():
            yield f"{'.'.join(path)}: in the order {', '.join(old)} there, {', '.join(new)} here"
    elif old != new:
        yield f"{'.'.join(path)}: {_told(old)} there, {_told(new)} here"


def _told(value: Any) -> str:
    return "nothing" if value is None else repr(value)
