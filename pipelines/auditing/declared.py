"""The declared proposal in closed form: q of every item, and the log_q that follows from it.

    uniform       1 / n                         popularity    count ** exponent, 0 without clicks
    log_uniform   log((k + 2) / (k + 1)) / log(n + 1) of the item with rank k by falling training clicks, which is its
                  index unless indices are inherited (tf.random.log_uniform_candidate_sampler)
    in_batch      training clicks, as blocks are cut out of a random order
    mixture       the shares' sum               pool without repetition   pi_i = min(1, c q_i), which sum to N

What depends on lists that no record holds (impressions, a column, mined) cannot be computed here, and is said so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.manifest import Manifest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
CATALOGUE_WIDE = ("uniform", "popularity", "log_uniform", "in_batch")


@dataclass(frozen=True)
class Declared:
    """q: [items], None where it cannot be computed. base: [items] log_q before exclusion. unknown: why not, or nothing.

    unique: False, True, or "tensorflow" (its rejection, whose log_q depends on a pool's number of tries).
    slots: of a click's negatives, how many are of q, the first ones; fewer than K where `others`, the strategies that
    depend on the click, have some. bias: how far an item's draws may be off what is expected, as a part of it.
    """

    q: Floats | None
    base: Floats | None
    count: int
    slots: float
    others: tuple[dict[str, Any], ...]
    unique: bool | str
    levels: frozenset[str]
    availability: bool = False
    bias: float = 0.0
    unknown: str = ""

    @property
    def history(self) -> bool:
        """Whether what the user had is excluded, be it before the click or at any time."""
        return bool(self.levels & {"history", "user"})


def declared(manifest: Manifest, counts: Floats, frequency: Floats, gone: Bools | None = None) -> Declared:
    """What the manifest declares, over training clicks [items] and the frequencies [items] that popularity goes by.

    gone: [items] those that are never drawn.
    """
    negatives, spec = manifest.config.get("negatives", {}), manifest.record
    parts = manifest.proposal.get("declared", [])
    wide = [part for part in parts if part["strategy"] in CATALOGUE_WIDE]
    others = tuple(part for part in parts if part["strategy"] not in CATALOGUE_WIDE)
    names = ", ".join(sorted({part["strategy"] for part in others}))
    unique = negatives.get("unique")
    unique = (spec.layout == "sequence") if unique is None else unique
    levels = negatives.get("exclude", "history")
    levels = frozenset([levels] if isinstance(levels, str) else levels) - {"none"}
    unknown = f"strategies that depend on the click ({names})" if others else ""
    if not parts:
        unknown = "the manifest declares no proposal"
    q = base = None
    try:
        q = mixture(wide, counts, frequency, gone) if wide else None
    except (ValueError, KeyError, TypeError) as error:
        unknown = f"the declared proposal cannot be computed: {error}"
    if q is not None:
        with np.errstate(divide="ignore"):
            base = np.log(q) + np.log(spec.negatives)
            if unique is True and spec.per == "block":
                base = np.log(inclusion(q, spec.negatives))
    source = manifest.config.get("items", {})
    return Declared(
        q=q,
        base=base,
        count=spec.negatives,
        slots=sum(float(part.get("slots", 0)) for part in wide) if others else float(spec.negatives),
        others=others,
        unique=unique,
        levels=levels,
        availability=bool(source.get("available_from") or source.get("available_to")),
        # What a click excludes is left out of its block's clicks, not of all clicks.
        bias=2 / spec.clicks if any(part["strategy"] == "in_batch" for part in wide) else 0.0,
        unknown=unknown,
    )


def mixture(
    parts: list[dict[str, Any]], counts: Floats, frequency: Floats, gone: Bools | None = None
) -> Floats:  # fmt: skip
    """[items] probabilities of the catalogue-wide parts together."""
    total = sum(float(part["share"]) for part in parts)
    q = np.zeros(len(frequency))
    for part in parts:
        weights = _weights(part, counts, frequency)
        if gone is not None:
            weights = np.where(gone, 0.0, weights)
        if not weights.sum() > 0:
            raise ValueError(f"{part['strategy']} has no item to draw")
        q += float(part["share"]) / total * weights / weights.sum()
    return q


def _weights(part: dict[str, Any], counts: Floats, frequency: Floats) -> Floats:
    if part["strategy"] == "uniform":
        return np.ones(len(frequency))
    if part["strategy"] == "log_uniform":
        rank = np.empty(len(counts))
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        return np.log((rank + 2.0) / (rank + 1.0))
    if part["strategy"] == "in_batch":
        return counts
    clicked = frequency > 0
    return np.where(clicked, np.where(clicked, frequency, 1.0) ** float(part["exponent"]), 0.0)


def inclusion(q: Floats, count: int) -> Floats:
    """[items] min(1, c q) with c such that they sum to `count`; the largest are certain, one after the other."""
    order = np.argsort(-q, kind="stable")
    ranked = q[order]
    left = np.cumsum(ranked[::-1])[::-1]
    certain = 0
    while certain < min(count, len(q)) and (count - certain) * ranked[certain] >= left[certain] * (1 - 1e-12):
        certain += 1
    pi = np.ones(len(q))
    if certain < len(q):
        pi[order[certain:]] = (count - certain) * ranked[certain:] / max(left[certain], 1e-300)
    return pi
