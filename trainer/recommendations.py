"""What the numbers look like to a person: a few held-out users, what they had last, and the ten recommended."""

from dataclasses import dataclass

import numpy as np

from trainer.dataset import Catalogue, HeldOut
from trainer.metrics import Ranking

SHOWN = 10
COLUMN = 44


@dataclass(frozen=True)
class Sample:
    """One held-out click. last: the user's items by name, the most recent first. rank: of what came next, 1 is best."""

    user: str
    last: list[str]
    recommended: list[str]
    following: str
    rank: int

    @property
    def hit(self) -> int:
        """Where in `recommended` the held-out item stands; -1 if it does not."""
        return self.rank - 1 if self.rank <= len(self.recommended) else -1


def samples(held_out: HeldOut, catalogue: Catalogue, ranking: Ranking, count: int = 3) -> list[Sample]:
    """Held-out clicks evenly spaced over those users who have a history; the same ones every time."""
    values, lengths = held_out.history
    ends = np.cumsum(lengths)
    known = np.flatnonzero(lengths)
    if not len(known):
        known = np.arange(len(held_out))
    chosen = known[np.linspace(0, len(known), count, endpoint=False).astype(int)] if len(known) else known
    return [
        Sample(
            user=held_out.key[click].decode("utf-8", "replace"),
            last=[catalogue.name(i) for i in values[ends[click] - lengths[click] : ends[click]][::-1][:SHOWN]],
            recommended=[catalogue.name(i) for i in ranking.top[click] if i >= 0],
            following=catalogue.name(int(held_out.positive[click])),
            rank=int(ranking.rank[click]) + 1,
        )
        for click in dict.fromkeys(int(click) for click in chosen)
    ]


def as_text(found: list[Sample]) -> str:
    """The samples for a terminal, histories beside recommendations."""
    lines: list[str] = []
    for sample in found:
        lines += ["", f"user {sample.user}: next came {sample.following!r}, ranked {sample.rank}"]
        lines.append(f"  {'last items, the most recent first':<{COLUMN}}  recommended")
        for row in range(max(len(sample.last), len(sample.recommended))):
            last = sample.last[row] if row < len(sample.last) else ""
            recommended = sample.recommended[row] if row < len(sample.recommended) else ""
            mark = "  <- next" if row == sample.hit else ""
            lines.append(f"  {_cut(last):<{COLUMN}}  {row + 1:>2} {_cut(recommended)}{mark}".rstrip())
    return "\n".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= COLUMN else text[: COLUMN - 1] + "…"
