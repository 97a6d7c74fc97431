"""What adds up over the shards of a dataset: findings, draws, positives, and hashes that show what is drawn twice.

Draws are held against the sum of each click's conditional probabilities, so exclusion needs no approximation; where not
all that is excluded is known, a click counts on neither side. Some 100 bytes an item, and 8 a click up to MOST_HASHES.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.auditing.clicks import mixed
from pipelines.auditing.excluded import Excluded, Facts
from pipelines.auditing.findings import Check, Findings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

MOST_HASHES = 4_000_000


@dataclass
class Tally:
    """Of some shards. observed, expected: [items] draws; a pool's expectation follows from their number.

    pools: how many. positives: [sets, items]. digest: [sets] sum of the clicks' hashes, whatever their order.
    hashes: of negatives, those below a share of all. chance: sums over clicks that `repetition` needs.
    shards: (bytes, crc32c, records, clicks) by path.
    """

    findings: Findings
    observed: Ints
    expected: Floats
    positives: Ints
    digest: Hashes
    pools: int = 0
    hashes: list[Hashes] = field(default_factory=list)
    chance: Floats = field(default_factory=lambda: np.zeros(2))
    shards: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)

    @classmethod
    def empty(cls, items: int, sets: int) -> "Tally":
        """Of nothing."""
        nothing = np.zeros(items)
        positives = np.zeros((sets, items), np.int64)
        return cls(Findings(), nothing.astype(np.int64), nothing, positives, np.zeros(sets, np.uint64))

    def store(self, path: Path) -> None:
        """Writes a file that `load` reads: plain arrays and JSON."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *self.hashes])
        arrays = {name: getattr(self, name) for name in ("observed", "expected", "positives", "digest", "chance")}
        told = {"findings": self.findings.to_json(), "shards": self.shards, "pools": self.pools}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, hashes=hashes, told=np.array(json.dumps(told)), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Tally":
        """The tally in a file."""
        with np.load(path, allow_pickle=False) as stored:
            told = json.loads(str(stored["told"]))
            arrays = {name: stored[name] for name in ("observed", "expected", "positives", "digest", "chance")}
            hashes = [stored["hashes"]]
        shards = {name: (int(a), int(b), int(c), int(d)) for name, (a, b, c, d) in told["shards"].items()}
        findings = Findings({name: Check(**check) for name, check in told["findings"].items()})
        return cls(findings=findings, hashes=hashes, shards=shards, pools=int(told["pools"]), **arrays)

    def merge(self, other: "Tally") -> "Tally":
        """Adds another; returns itself."""
        self.findings.merge(other.findings)
        for name in ("observed", "expected", "positives", "digest", "pools", "chance"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.hashes += other.hashes
        self.shards |= other.shards
        return self

    def count(self, excluded: Excluded, allowed: Floats | None, shard: str, epoch: int, share: float) -> None:
        """Adds training clicks of one set; `share` of the hashes is kept. allowed: what `log_q.check` gave."""
        clicks, size = excluded.clicks, len(excluded.facts.items)
        self.positives[epoch] += np.bincount(clicks.positive, minlength=size)
        # As arrays, whose sums wrap around.
        self.digest[epoch : epoch + 1] += mixed(clicks.person.view(np.int64), clicks.time, clicks.positive).sum()
        if clicks.pools is not None:
            self._pools(clicks.pools.items, excluded.facts, share)
        elif clicks.negatives is not None:
            self._own(excluded, allowed, shard, share)

    def _pools(self, pools: Ints, facts: Facts, share: float) -> None:
        self.observed = self.observed + np.bincount(pools.reshape(-1), minlength=len(facts.items))
        self.pools += len(pools)
        self._keep(mixed(*np.sort(pools, axis=1).T), share)

    def _own(self, excluded: Excluded, allowed: Floats | None, shard: str, share: float) -> None:
        clicks, declared = excluded.clicks, excluded.facts.declared
        if declared.q is None or clicks.negatives is None or clicks.masked is None:
            self.findings.skip("distribution", declared.unknown or "no part is of the whole catalogue", len(clicks))
            return
        slots = round(declared.slots)
        self.findings.skip("distribution", declared.unknown, len(clicks) if declared.others else 0)
        drawn = ~clicks.masked.all(axis=1)
        left = 1 - excluded.mass(declared.q)
        counted = drawn & excluded.exact & (left > 1e-12)
        why = excluded.facts.inexact or "users untold"
        self.findings.skip("distribution", f"what is excluded is not known ({why})", int((drawn & ~counted).sum()))
        if declared.unique and allowed is not None:
            counted &= np.isfinite(allowed)
            self._different(excluded, shard)
            self._included(excluded, np.flatnonzero(counted), allowed)
        else:
            weight = np.where(counted, slots / np.where(counted, left, 1.0), 0.0)
            self.expected = self.expected + declared.q * (weight.sum() - excluded.weighed(weight))
        chosen = clicks.negatives[counted, :slots].reshape(-1)  # those of the whole catalogue stand first
        self.observed = self.observed + np.bincount(chosen, minlength=len(excluded.facts.items))
        hashes = mixed(*(clicks.negatives[drawn, :slots].T)) if slots else mixed(clicks.time[drawn])
        self._keep(hashes, share)
        # Two clicks draw the same in order with at most (sum q^2 / (left left'))^K.
        q2 = float((declared.q**2).sum())
        powers = np.exp(np.minimum(slots * (0.5 * np.log(q2) - np.log(np.maximum(left[drawn], 1e-12))), 300.0))
        self.chance = self.chance + np.array([powers.sum(), (powers**2).sum()])

    def _different(self, excluded: Excluded, shard: str) -> None:
        """Negatives without repetition are different ones."""
        clicks = excluded.clicks
        if clicks.negatives is None or clicks.masked is None:
            return
        ordered = np.sort(np.where(clicks.masked, -1 - np.arange(clicks.masked.shape[1]), clicks.negatives), axis=1)
        twice = np.flatnonzero((np.diff(ordered, axis=1) == 0).any(axis=1))
        self.findings.add("repetition", (
            f"{clicks.where(shard, i)}: an item twice among negatives that are to be different" for i in twice[:20]
        ), len(twice))  # fmt: skip

    def _included(self, excluded: Excluded, rows: Ints, allowed: Floats) -> None:
        """Expected draws without repetition: the sum of min(1, c q) over clicks that do not exclude the item."""
        declared, size = excluded.facts.declared, len(excluded.facts.items)
        q = np.asarray(declared.q)
        c = declared.count / np.exp(allowed[rows])
        owner, item = excluded.pairs(rows)
        gone = np.bincount(item, np.minimum(1.0, c[owner] * q[item]), size)
        ranked = np.sort(c)
        below = np.concatenate([[0.0], np.cumsum(ranked)])
        certain = np.searchsorted(ranked, 1 / np.maximum(q, 1e-300))
        self.expected = self.expected + q * below[certain] + (len(c) - certain) - gone

    def _keep(self, hashes: Hashes, share: float) -> None:
        self.findings.looked("repetition", len(hashes))
        self.hashes.append(hashes[hashes <= np.uint64(min(share, 1.0) * (2**64 - 2048))])
