"""What has changed from one dataset to the next, and whether it is too much: a check between two days.

Compared are clicks, rejected rows, vocabularies and distributions (see `distributions`, `divergence`). A PSI counts
only as far as it goes beyond chance. Boundaries of buckets that are quantiles differ from day to day; then the clicks
at or above each boundary of the earlier dataset are read off the later one's by linear interpolation, which tells a
shift too small rather than too large.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines import divergence
from pipelines.distributions import Bucketed, Counted, Dense, Distribution, Distributions

Floats = npt.NDArray[np.float64]
MOVERS = 3


@dataclass(frozen=True)
class Limits:
    """The most that may change from A to B; what is beyond makes the check fail.

    psi: of any distribution, beyond chance. shift: of a mean, in standard deviations. rejected: rise of an input's
    share of rejected rows. clicks: relative change of the number of training clicks. new, vanished: values of a
    vocabulary that only B, or only A has, as a share of those of A.
    """

    psi: float = 0.25
    shift: float = 0.5
    rejected: float = 0.01
    clicks: float = 0.5
    new: float = 1.0
    vanished: float = 0.5


@dataclass(frozen=True)
class Rejected:
    """Shares of an input's rows that were rejected, in all or for one reason."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Growth:
    """Values of a vocabulary: of A, of B, only of B, only of A."""

    name: str
    before: int
    after: int
    new: int
    vanished: int


@dataclass(frozen=True)
class Shift:
    """How far a distribution moved: psi and kl (B from A, nats), the part of the psi that chance explains, and the
    values that moved most, each with its shares in A and B.
    """

    name: str
    psi: float
    by_chance: float
    kl: float
    movers: tuple[tuple[str, float, float], ...] = ()

    @property
    def beyond_chance(self) -> float:
        """The psi that chance does not explain."""
        return max(self.psi - self.by_chance, 0.0)


@dataclass(frozen=True)
class Move:
    """How far the mean of a number moved, in standard deviations, of a vector the number at `place` that moved most;
    the means and deviations of that one.
    """

    name: str
    shift: float
    place: int
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True)
class Drift:
    """All that was compared; `apart` are distributions that one dataset has and the other has not, or has otherwise.

    users: the vocabulary of users, who may come and go without limit.
    """

    before: str
    after: str
    clicks: tuple[int, int]
    users: str | None
    rejected: tuple[Rejected, ...]
    vocabularies: tuple[Growth, ...]
    shifts: tuple[Shift, ...]
    moves: tuple[Move, ...]
    apart: tuple[str, ...]

    @classmethod
    def between(cls, before: Distributions, after: Distributions) -> "Drift":
        """What has changed from `before` to `after`."""
        shifts: list[Shift] = []
        moves: list[Move] = []
        apart: list[str] = []
        for name in dict.fromkeys((*before.by_name, *after.by_name)):
            old, new = before.by_name.get(name), after.by_name.get(name)
            if old is None or new is None or type(old) is not type(new) or _widths(old) != _widths(new):
                holder = before.name if new is None else after.name
                apart.append(f"{name}: {'only in ' + holder if None in (old, new) else 'of another kind'}")
            elif isinstance(old, Dense) and isinstance(new, Dense):
                moves.append(_moved(name, old, new))
            else:
                shifts.append(_shifted(name, old, new))
        return cls(
            before.name, after.name, (before.clicks, after.clicks), after.users, tuple(_rejected(before, after)),
            tuple(_growth(before, after)), tuple(shifts), tuple(moves), tuple(apart),
        )  # fmt: skip

    def exceeded(self, limits: Limits) -> Iterator[str]:
        """A sentence for each limit that is passed."""
        first, second = self.clicks
        change = abs(second - first) / max(first, 1)
        if change > limits.clicks:
            yield f"training clicks: {first:,} to {second:,}, {_beyond(change, limits.clicks, 'clicks')}"
        for one in self.rejected:
            if one.after - one.before > limits.rejected:
                rise = f"{one.before:.2%} to {one.after:.2%}"
                yield f"rejected {one.name}: {rise}, {_beyond(one.after - one.before, limits.rejected, 'rejected')}"
        for grown in (one for one in self.vocabularies if one.name != self.users):
            for what, limit in (("new", limits.new), ("vanished", limits.vanished)):
                count = getattr(grown, what)
                share = count / max(grown.before, 1)
                if share > limit:
                    told = f"{count:,} {what} of {grown.before:,}"
                    yield f"vocabulary {grown.name}: {told}, {_beyond(share, limit, what)}"
        for shift in self.shifts:
            if shift.beyond_chance > limits.psi:
                yield f"{shift.name}: PSI {_beyond(shift.beyond_chance, limits.psi, 'psi')}{_movers(shift)}"
        for move in self.moves:
            if move.shift > limits.shift:
                yield (
                    f"{move.name}{_place(move)}: mean {move.before[0]:.4g} to {move.after[0]:.4g}, "
                    f"standard deviations {_beyond(move.shift, limits.shift, 'shift')}"
                )
        yield from self.apart

    def to_json(self) -> dict[str, Any]:
        """A document of all figures."""
        return asdict(self)


def text(drift: Drift) -> str:
    """The figures as tables."""
    (first, second), lines = drift.clicks, [f"from {drift.before} to {drift.after}", ""]
    lines.append(f"{'':<28}{'before':>12}{'after':>12}")
    lines.append(f"{'training clicks':<28}{first:>12,}{second:>12,}")
    lines += [f"{_cut('rejected ' + one.name):<28}{one.before:>12.2%}{one.after:>12.2%}" for one in drift.rejected]
    if drift.vocabularies:
        lines += ["", f"{'vocabulary':<28}{'before':>12}{'after':>12}{'new':>10}{'vanished':>10}"]
    for grown in drift.vocabularies:
        sizes = f"{grown.before:>12,}{grown.after:>12,}{grown.new:>10,}{grown.vanished:>10,}"
        lines.append(f"{_cut(grown.name):<28}{sizes}")
    if drift.shifts:
        lines += ["", f"{'distribution':<28}{'PSI':>12}{'by chance':>12}{'KL':>10}   moved most"]
    for shift in drift.shifts:
        figures = f"{shift.psi:>12.4f}{shift.by_chance:>12.4f}{shift.kl:>10.4f}"
        lines.append(f"{_cut(shift.name):<28}{figures}{_movers(shift, '   ')}")
    if drift.moves:
        lines += ["", f"{'number':<28}{'mean':>12}{'after':>12}{'deviation':>12}{'after':>12}{'shift':>10}"]
    for move in drift.moves:
        (mean, deviation), (new_mean, new_deviation) = move.before, move.after
        figures = f"{mean:>12.4g}{new_mean:>12.4g}{deviation:>12.4g}{new_deviation:>12.4g}{move.shift:>10.4f}"
        lines.append(f"{_cut(move.name + _place(move)):<28}{figures}")
    return "\n".join([*lines, *drift.apart])


def _rejected(before: Distributions, after: Distributions) -> Iterator[Rejected]:
    for name in dict.fromkeys((*before.rows, *after.rows)):
        of = [part.rows.get(name, {}).get("read", 0) for part in (before, after)]
        counts = [part.rows.get(name, {}).get("rejected", 0) for part in (before, after)]
        yield Rejected(name, *_parts(counts, of))
        prefix = f"{name}."
        for reason in sorted(key for key in {**before.rejected, **after.rejected} if key.startswith(prefix)):
            yield Rejected(reason, *_parts([part.rejected.get(reason, 0) for part in (before, after)], of))


def _parts(counts: list[int], of: list[int]) -> tuple[float, float]:
    first, second = (count / total if total else 0.0 for count, total in zip(counts, of, strict=True))
    return first, second


def _growth(before: Distributions, after: Distributions) -> Iterator[Growth]:
    for name in (name for name in before.vocabularies if name in after.vocabularies):
        old, new = before.vocabularies[name], after.vocabularies[name]
        yield Growth(name, len(old), len(new), len(new - old), len(old - new))


def _shifted(name: str, before: Distribution, after: Distribution) -> Shift:
    if isinstance(before, Bucketed) and isinstance(after, Bucketed):
        names = _bucket_names(before.edges)
        first, second = before.clicks, rebucketed(after, before.edges)
    elif isinstance(before, Counted) and isinstance(after, Counted):
        names = list(dict.fromkeys((*before.clicks, *after.clicks)))
        first, second = (np.array([side.clicks.get(one, 0.0) for one in names]) for side in (before, after))
    else:
        raise TypeError(f"{name}: {type(before).__name__} and {type(after).__name__} cannot be compared")
    if not (first.sum() and second.sum()):
        return Shift(name, 0.0, 0.0, 0.0)
    shares = [first / first.sum(), second / second.sum()]
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:MOVERS]
    movers = tuple(
        (names[place], float(shares[0][place]), float(shares[1][place]))
        for place in order.tolist() if shares[0][place] != shares[1][place]
    )  # fmt: skip
    totals = float(first.sum()), float(second.sum())
    first, second = divergence.pooled(first, second)
    chance = divergence.by_chance(len(first), *totals)
    return Shift(name, divergence.psi(first, second), chance, divergence.kl(first, second), movers)


def rebucketed(found: Bucketed, edges: tuple[float, ...]) -> Floats:
    """Clicks [2 + edges] of `found` by other edges; the very same where the edges are, else interpolated between its
    own, and with nothing below its first or above its last.
    """
    if found.edges == edges or not found.edges or not edges:
        return found.clicks if len(found.clicks) == len(edges) + 2 else np.zeros(len(edges) + 2)
    below = np.cumsum(found.clicks[1:-1])  # of clicks with a value, those below each edge
    reached = np.interp(edges, found.edges, below)
    total = float(found.clicks[1:].sum())
    return np.concatenate([found.clicks[:1], np.diff(reached, prepend=0.0, append=total)])


def _moved(name: str, before: Dense, after: Dense) -> Move:
    """By the mean of both variances; a constant that becomes another one has moved infinitely."""
    apart = np.abs(after.mean - before.mean)
    spread = np.sqrt((before.deviation**2 + after.deviation**2) / 2)
    shifts = np.divide(apart, spread, out=np.where(apart > 0, np.inf, 0.0), where=spread > 0)
    if not (before.clicks and after.clicks):
        shifts = np.zeros_like(shifts)
    place = int(np.argmax(shifts))
    told = [(float(side.mean[place]), float(side.deviation[place])) for side in (before, after)]
    return Move(name, float(shifts[place]), place if len(shifts) > 1 else -1, told[0], told[1])


def _widths(found: Distribution) -> int:
    return len(found.mean) if isinstance(found, Dense) else 0


def _bucket_names(edges: tuple[float, ...]) -> list[str]:
    return ["missing", *([f"< {edges[0]:g}"] if edges else ["any"]), *(f">= {edge:g}" for edge in edges)]


def _beyond(value: float, limit: float, option: str) -> str:
    return f"{value:.4g}, more than {limit:g} (--max-{option})"


def _movers(shift: Shift, lead: str = ": ") -> str:
    told = ", ".join(f"{_cut(name, 30)} {first:.1%} to {second:.1%}" for name, first, second in shift.movers)
    return f"{lead}{told}" if told else ""


def _place(move: Move) -> str:
    return "" if move.place < 0 else f"[{move.place}]"


def _cut(name: str, most: int = 27) -> str:
    from pipelines.readable import printable

    shown = printable(name)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
