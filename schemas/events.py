"""One JSON object a line for each thing that happens, for those who collect logs; producer and trainer alike.

    {"time": "2026-11-20T01:02:03.456+00:00", "level": "info", "event": "step_ended", "message": "reading items: ...",
     "step": "items", "seconds": 2.1, "usable": 1682}

`time` (UTC), `level` (info, warning or error) and `event` are in every line; `message` is what the text log says.
Further fields are those of the event, numbers as numbers. Secrets are hidden here, so that no caller can forget it.
"""

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from schemas import redaction

Format = Literal["text", "json"]
Level = Literal["info", "warning", "error"]
FORMATS = ("text", "json")


def line(event: str, message: str = "", level: Level = "info", **fields: Any) -> str:
    """One event as one line of JSON, without its newline."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    told = {"time": now, "level": level, "event": event, **({"message": message} if message else {}), **fields}
    return json.dumps(finite(redaction.document(told)), ensure_ascii=False, allow_nan=False, default=str)


def finite(value: Any) -> Any:
    """The same document with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
