"""Draws from what a user did not know at an anchor: the law is as without, few are refused, company has no say."""

import numpy as np
import pytest

from samplers import anchored, rng
from samplers.allowed import draw_allowed
from samplers.exclusion import Exclusion
from samplers.goodness import compare
from samplers.proposal import proposal

ITEMS = 40
USERS = np.array([50, 7, 60])  # clicks


def clicks(level="history", **more):
    """Three users, who know more and more; of the last one all but a few items."""
    start = np.repeat(np.cumsum(USERS) - USERS, USERS)
    rows = np.arange(len(start))
    end = {"history": rows, "user": start + np.repeat(USERS, USERS)}[level]
    draws = np.random.default_rng(6).choice(ITEMS - 3, len(rows), p=np.full(ITEMS - 3, 1 / (ITEMS - 3)))
    return Exclusion(start, end, draws, ITEMS, history=True, positive=True, **more)


@pytest.fixture
def strategy():
    return proposal([("popularity", 1.0, {"exponent": 0.75})], np.arange(ITEMS, 0, -1) ** 2)


@pytest.fixture
def eager(monkeypatch):
    """Anchors every eight clicks, for whoever may not draw an eighth of the mass."""
    monkeypatch.setattr(anchored, "EVERY", 8)
    monkeypatch.setattr(anchored, "SHARE", 8 / 7)


def anchored_rows(monkeypatch):
    """The rows that anchors draw for from here on."""
    drawn, original = [], anchored.draw

    def spied(proposal, clicks, row, uniform):
        drawn.extend(row.tolist())
        return original(proposal, clicks, row, uniform)

    monkeypatch.setattr(anchored, "draw", spied)
    return drawn


@pytest.mark.parametrize("level", ["history", "user"])
def test_draws_follow_the_proposal_conditioned_on_what_is_allowed(strategy, eager, monkeypatch, level):
    drawn_for, exclusion = anchored_rows(monkeypatch), clicks(level)
    rows = np.arange(len(exclusion.item))
    drawn = draw_allowed(strategy, rng.keyed(3, rows), 2_000, exclusion, rows, exclusion.mass(strategy.mass))
    assert len(set(drawn_for)) > 80
    worst = 1.0
    for row in rows:
        expected = strategy.table.probabilities.copy()
        expected[exclusion.items_of(int(row))] = 0
        compared = compare(np.bincount(drawn[row], minlength=ITEMS), expected / expected.sum() * 2_000)
        worst = min(worst, compared.p_value)
    assert worst > 1e-3 / len(rows)


def test_who_has_few_clicks_or_enough_left_draws_from_all(strategy, eager, monkeypatch):
    drawn_for, exclusion = anchored_rows(monkeypatch), clicks()
    rows, excluded = np.arange(len(exclusion.item)), exclusion.mass(strategy.mass)
    draw_allowed(strategy, rng.keyed(3, rows), 500, exclusion, rows, excluded)
    enough = strategy.one - excluded > 7 / 8 * strategy.one
    few = rows - exclusion.start < 8
    assert few.sum() == 8 + 7 + 8
    assert set(drawn_for) == set(np.flatnonzero(~few & ~enough))


def test_a_click_draws_the_same_in_any_company(strategy, eager):
    exclusion = clicks()
    masses = exclusion.mass(strategy.mass)
    rows = np.random.default_rng(1).permutation(len(masses))
    together = draw_allowed(strategy, rng.keyed(4, rows), 30, exclusion, rows, masses[rows])
    for position in range(0, len(rows), 5):
        one = rows[position : position + 1]
        alone = draw_allowed(strategy, rng.keyed(4, one), 30, exclusion, one, masses[one])
        assert alone.tolist() == together[position : position + 1].tolist()


def test_what_sessions_and_lists_exclude_for_a_while_is_drawn_again_later(strategy, eager):
    """At an anchor only histories are cut out of the line: what else is excluded there may be had a click later."""
    count = int(USERS.sum())
    start, lengths = clicks().start, np.arange(count) % 2
    session = np.unique(start + (np.arange(count) - start) // 3, return_inverse=True)[1]
    listed = (np.full(lengths.sum(), ITEMS - 1), np.append(0, np.cumsum(lengths)))
    exclusion = clicks(session=session, trained=np.ones(count, bool), listed=listed)
    rows = np.arange(count)
    drawn = draw_allowed(strategy, rng.keyed(8, rows), 2_000, exclusion, rows, exclusion.mass(strategy.mass))
    for row in rows:
        allowed = np.setdiff1d(np.flatnonzero(strategy.mass), exclusion.items_of(int(row)))
        expected = np.zeros(ITEMS)
        expected[allowed] = strategy.mass[allowed] / strategy.mass[allowed].sum()
        assert compare(np.bincount(drawn[row], minlength=ITEMS), expected * 2_000).p_value > 1e-3 / count


def test_few_draws_are_refused(monkeypatch):
    """A user of 20,000 clicks on most of 2,000 items: some two look-ups a slot, where dozens were needed."""
    items, count = 2_000, 20_000
    random = np.random.default_rng(2)
    item = random.integers(0, items - 20, count)
    rows = np.arange(count)
    exclusion = Exclusion(np.zeros(count, int), rows, item, items, history=True, positive=True)
    strategy = proposal([("uniform", 1.0, {})], np.ones(items, np.int64))
    asked, original = [], Exclusion.excluded

    def counted(self, row, item):
        asked.append(item.size)
        return original(self, row, item)

    monkeypatch.setattr(Exclusion, "excluded", counted)
    late = rows[-2_000:]
    excluded = exclusion.mass(strategy.mass)[late]

    def look_ups():
        asked.clear()
        draw_allowed(strategy, rng.keyed(5, late), 20, exclusion, late, excluded)
        return sum(asked) / (20 * len(late))

    assert look_ups() < 2.5
    monkeypatch.setattr(anchored, "EVERY", count)
    assert look_ups() > 20
