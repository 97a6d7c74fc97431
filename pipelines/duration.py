"""Spans of time as people write them (30m, 12h, 90d): one parser for every option that takes one.

A span stays text in the configuration, so that the manifest repeats what was written; it becomes a whole number in the
clicks' unit where it meets times.
"""

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator

from schemas.manifest import PER_SECOND

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def seconds(span: str) -> Fraction:
    """The seconds of a span, exactly.

    Raises:
      ValueError: not a number above 0 with s, m, h, d or w behind it.
    """
    found = _SPAN.fullmatch(span.strip())
    if found is None or not Fraction(found[1]):
        raise ValueError(f"a span of time such as 30m, 12h or 90d (s, m, h, d, w) is expected, got {span!r}")
    return Fraction(found[1]) * SECONDS[found[2]]


def in_unit(span: str, unit: str) -> int:
    """The span in `unit` (seconds, milliseconds, microseconds), at least 1."""
    return max(1, round(seconds(span) * PER_SECOND[unit]))


def _checked(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)  # a bare number says nothing of its unit
    seconds(text)
    return text.strip()


def _checked_before(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    if not text.strip().startswith("-"):
        raise ValueError(f"a time, or a span before the end of the day such as -1d, is expected, got {value!r}")
    return "-" + _checked(text.strip()[1:])


Duration = Annotated[str, BeforeValidator(_checked)]
BeforeEnd = Annotated[str, BeforeValidator(_checked_before)]
