"""Draws of what is not excluded: from the proposal conditioned on each click's allowed items, exactly.

A refused draw is repeated with the slot's next number, among little more than what is on offer (`samplers.on_offer`)
where less than half of a catalogue that comes and goes is left, or than what is left to a user of thousands of clicks
(`samplers.anchored`); after `REDRAWS` of them (a user who knows nearly everything) the slot is drawn by inversion over
what remains (`samplers.remaining`). Cost: a draw and a look-up a slot, 1 / (1 - excluded mass) of them on average, at
most `REDRAWS`, and n log n for the inversion of n slots, also of one user. Only where a catalogue comes and goes, by
times and not by runs of rows, does it list what each click excludes.
"""

from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from samplers import anchored, remaining, rng
from samplers.availability import Availability
from samplers.inversion import Positions
from samplers.on_offer import OnOffer
from samplers.proposal import Proposal
from samplers.spans import Spans

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

REDRAWS = 32
STEP = 1 << 16  # draws at a time, so that what lies between two look-ups stays in the cache
PAIRS = 1 << 22  # excluded items that are listed at a time


class Refusing(anchored.Knowing, Protocol):
    """What may not be drawn, told of what a proposal draws: items (`samplers.exclusion`), or positions
    (`samplers.places`).
    """

    @property
    def availability(self) -> Availability | None: ...

    @property
    def times(self) -> Ints: ...

    def runs(self) -> list[Spans]: ...

    def excluded(self, row: Ints, drawn: Ints, /) -> Bools: ...

    def sizes(self, rows: Ints) -> Ints: ...

    def lists(self, rows: Ints) -> tuple[Ints, Ints]: ...


def draw_allowed(
    proposal: Proposal, keys: rng.Keys, count: int, exclusion: Refusing, rows: Ints, excluded_mass: Ints
) -> Ints:
    """[clicks, count] draws from the proposal conditioned on not being excluded.

    Args:
      keys: [clicks] one key a click, which alone decides its draws.
      rows: [clicks] rows of the clicks in `exclusion`. excluded_mass: [clicks], below `proposal.one`.

    No draw is ever dropped or let through.
    """
    slots = np.arange(count, dtype=np.uint64)
    drawn = np.empty((len(rows), count), np.int64)
    refused = [np.zeros(0, np.int64)]
    step = max(1, STEP // count)
    for begin in range(0, len(rows), step):
        some = slice(begin, begin + step)
        drawn[some] = proposal.draw(keys[some, None], slots[None, :])
        refused.append(begin * count + np.flatnonzero(exclusion.excluded(rows[some, None], drawn[some])))
    flat, open_slots = drawn.reshape(-1), np.concatenate(refused)
    for attempt in range(1, REDRAWS):
        if not len(open_slots):
            break
        owner, slot = np.divmod(open_slots, count)
        counters = slot.astype(np.uint64) + (np.uint64(attempt) << np.uint64(32))
        flat[open_slots] = proposal.draw(keys[owner], counters)
        if exclusion.availability is not None:
            rare = np.flatnonzero(excluded_mass[owner] > proposal.one // 2)
            uniform, time = rng.uniforms(keys[owner[rare]], counters[rare]), exclusion.times[rows]
            flat[open_slots[rare]] = _on_offer(exclusion.availability, proposal.mass, time, owner[rare], uniform)
        elif (worth := anchored.worth(proposal.one, exclusion, rows[owner], excluded_mass[owner])).any():
            rare = np.flatnonzero(worth)
            uniform = rng.uniforms(keys[owner[rare]], counters[rare])
            flat[open_slots[rare]] = anchored.draw(proposal, exclusion, rows[owner[rare]], uniform)
        open_slots = open_slots[exclusion.excluded(rows[owner], flat[open_slots])]
    if len(open_slots):
        owner, slot = np.divmod(open_slots, count)
        uniform = rng.uniforms(keys[owner], slot + (REDRAWS << 32))
        left = proposal.one - excluded_mass[owner]
        target = np.minimum((uniform * left).astype(np.int64), left - 1)
        flat[open_slots] = inverted(proposal, exclusion, rows, owner, target)
    return drawn


def _on_offer(availability: Availability, mass: Ints, time: Ints, owner: Ints, uniform: Floats) -> Ints:
    """Draws from little more than what is available at the time of each click."""
    offer = availability.kept("offer", mass, partial(OnOffer, availability))
    drawn = np.empty(len(owner), np.int64)
    for begin in range(0, len(owner), STEP):
        some = slice(begin, begin + STEP)
        clicks, own = np.unique(owner[some], return_inverse=True)
        drawn[some] = offer.draw(uniform[some], time[clicks], own)
    return drawn


def inverted(proposal: Proposal, exclusion: Refusing, rows: Ints, owner: Ints, target: Ints) -> Ints:
    """[t] items by inversion of the distribution function over what is not excluded.

    owner: [t] position in `rows` of the click of each, rising. target: [t] from 0 up to the mass that remains to it.
    """
    if exclusion.availability is None:
        return proposal.items(remaining.positions(exclusion.runs(), proposal.end, proposal.mass, rows[owner], target))
    return proposal.items(_listed(proposal, exclusion, rows, owner, target))


def _listed(proposal: Proposal, exclusion: Refusing, rows: Ints, owner: Ints, target: Ints) -> Positions:
    """[t] where on the line targets come to lie; by a sort of what each click excludes, some clicks at a time."""
    found = np.empty(len(owner), np.int64)
    clicks, first, click_of = np.unique(owner, return_index=True, return_inverse=True)
    sizes = np.cumsum(exclusion.sizes(rows[clicks]))
    begins = np.flatnonzero(np.diff(sizes // PAIRS, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(clicks)], strict=True):
        some = slice(first[begin], first[end] if end < len(clicks) else len(owner))
        item, lengths = exclusion.lists(rows[clicks[begin:end]])
        found[some] = _beyond(proposal.end[item], proposal.mass[item], lengths, click_of[some] - begin, target[some])
    return found


def _beyond(end: Ints, mass: Ints, lengths: Ints, owner: Ints, target: Ints) -> Positions:
    """Where targets come to lie when the excluded items, so many a click, take no room.

    end, mass: of each click's excluded items, one click after the other. owner: [t] the click of each target.
    """
    taken = np.concatenate([[0], np.cumsum(mass, dtype=np.int64)])  # wraps around; differences are exact
    begins, click = np.cumsum(lengths) - lengths, np.repeat(np.arange(len(lengths)), lengths)
    # Targets pass an excluded item from where it would begin if those before it took no room.
    passed_at = (end - mass) - (taken[:-1] - taken[begins[click]])
    is_target = np.repeat([False, True], [len(end), len(target)])
    order = np.lexsort((is_target, np.append(passed_at, target), np.append(click, owner)))
    passed = np.empty(len(target), np.int64)
    passed[order[is_target[order]] - len(end)] = np.cumsum(~is_target[order])[is_target[order]]
    return np.asarray(target + (taken[passed] - taken[begins[owner]]))
