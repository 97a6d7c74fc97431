"""What an audit finds: checks with how much they looked at, what they found, and what they could not check.

A check that cannot be made (a strategy whose lists are in no record, users that nothing tells apart) is written down
with its reason and its number; nothing passes in silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 20

CHECKS: Mapping[str, str] = {
    "files": "every file of the manifest is there with its bytes and CRC-32C, and no other",
    "frames": "both CRCs of every record; every record an Example",
    "counts": "records and clicks of every shard; read = used + rejected; used = the clicks of a set",
    "format": "keys, types, lengths and slots of every record; as many candidates as declared",
    "items": "items/ holds every item once, those that are not inherited by falling training clicks",
    "attributes": "attributes of every candidate and history item are those of its own row in items/",
    "source": "items/ says what the item table given by --items says",
    "positives": "positives first and unmasked: each item is one as often as items/ counts training clicks",
    "exclusion": "no excluded item among unmasked negatives",
    "history": "histories rise in time and hold nothing of the future",
    "held_out": "held-out clicks come last, and none is in train",
    "sets": "every set of negatives has the same clicks",
    "log_q": "log_q is that of the declared proposal",
    "distribution": "draws follow the declared proposal (chi-square, p at least 1e-6)",
    "repetition": "clicks do not share their negatives; sets are independent",
}


@dataclass
class Check:
    """checked: how many were looked at. shown: the first of `found` findings. skipped: by reason, how many were not."""

    checked: int = 0
    found: int = 0
    shown: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """The checks of a part of a dataset; parts add up."""

    checks: dict[str, Check] = field(default_factory=lambda: {name: Check() for name in CHECKS})

    @property
    def found(self) -> int:
        """Findings of all checks."""
        return sum(check.found for check in self.checks.values())

    def looked(self, name: str, count: int = 1) -> None:
        """Counts what a check looked at."""
        self.checks[name].checked += int(count)

    def add(self, name: str, texts: str | Iterable[str], count: int | None = None) -> None:
        """Adds a finding, or one a text; `count` is how many there are where not all have a text."""
        check, given = self.checks[name], [texts] if isinstance(texts, str) else list(texts)
        check.found += len(given) if count is None else int(count)
        check.shown += given[: SHOWN - len(check.shown)]

    def skip(self, name: str, reason: str, count: int = 1) -> None:
        """Says that a check could not be made."""
        if count:
            skipped = self.checks[name].skipped
            skipped[reason] = skipped.get(reason, 0) + int(count)

    def note(self, name: str, text: str) -> None:
        """A figure to show beside a check."""
        self.checks[name].notes.append(text)

    def merge(self, other: "Findings") -> None:
        """Adds those of another part."""
        for name, theirs in other.checks.items():
            self.looked(name, theirs.checked)
            self.add(name, theirs.shown, theirs.found)
            self.checks[name].notes += theirs.notes
            for reason, count in theirs.skipped.items():
                self.skip(name, reason, count)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: asdict(check) for name, check in self.checks.items()}
