"""Exclusion against brute force: what is refused, what mass remains, and what is drawn instead."""

import numpy as np
import pytest

from samplers import exclusion, rng
from samplers.exclusion import Prefixes, draw_allowed
from samplers.goodness import compare
from samplers.proposal import proposal

ITEMS = 12


@pytest.fixture
def strategy():
    return proposal([("popularity", 0.9, {"exponent": 0.75}), ("uniform", 0.1, {})], np.arange(ITEMS, 0, -1))


def random_prefixes(seed, history, positive, users=30):
    """Prefixes of random users whose histories end at ties, and the same as plain sets."""
    random = np.random.default_rng(seed)
    start: list[int] = []
    end: list[int] = []
    item: list[int] = []
    sets: list[set[int]] = []
    for _ in range(users):
        begin, length = len(item), int(random.integers(1, 12))
        own = random.integers(0, ITEMS, length)
        ends = np.maximum.accumulate(np.where(random.random(length) < 0.7, np.arange(length), 0))
        for position in range(length):
            known = set(own[: ends[position]].tolist()) if history else set()
            sets.append(known | ({int(own[position])} if positive else set()))
        start += [begin] * length
        end += (begin + ends).tolist()
        item += own.tolist()
    return Prefixes(np.array(start), np.array(end), np.array(item), ITEMS, history, positive), sets


@pytest.mark.parametrize(("history", "positive"), [(True, True), (True, False), (False, True), (False, False)])
def test_excluded_items_and_their_mass_are_those_of_plain_sets(history, positive, strategy):
    prefixes, sets = random_prefixes(3, history, positive)
    clicks = np.repeat(np.arange(len(sets)), ITEMS)
    items = np.tile(np.arange(ITEMS), len(sets))
    found = prefixes.excluded(clicks, items).reshape(len(sets), ITEMS)
    masses = prefixes.mass(strategy.mass)
    for click, expected in enumerate(sets):
        assert set(np.flatnonzero(found[click]).tolist()) == expected
        assert set(prefixes.items_of(click).tolist()) == expected
        assert int(masses[click]) == sum(int(strategy.mass[item]) for item in expected)  # integers: exactly equal


def test_the_mass_of_everything_is_exactly_one(strategy):
    rows = ITEMS
    prefixes = Prefixes(np.zeros(rows, int), np.arange(rows), np.arange(rows), ITEMS, history=True, positive=True)
    assert int(prefixes.mass(strategy.mass)[-1]) == strategy.one


@pytest.mark.parametrize("redraws", [1, 2, exclusion.REDRAWS])
def test_draws_follow_the_proposal_conditioned_on_what_is_allowed(redraws, strategy, monkeypatch):
    monkeypatch.setattr(exclusion, "REDRAWS", redraws)  # 1 leaves all refused draws to the inversion
    prefixes = Prefixes(np.zeros(5, int), np.arange(5), np.array([0, 3, 0, 7, 1]), ITEMS, history=True, positive=True)
    rows = np.arange(5)
    keys = rng.keyed(9, rows)
    drawn = draw_allowed(strategy, keys, 40_000, prefixes, rows, prefixes.mass(strategy.mass))
    for row in rows:
        expected = strategy.table.probabilities.copy()
        expected[prefixes.items_of(int(row))] = 0
        observed = np.bincount(drawn[row], minlength=ITEMS)
        assert compare(observed, expected / expected.sum() * 40_000).p_value > 1e-3


def test_a_user_who_knows_all_but_one_item_gets_that_one(strategy):
    known = np.arange(ITEMS - 1)
    prefixes = Prefixes(np.zeros(ITEMS - 1, int), np.arange(ITEMS - 1), known, ITEMS, history=True, positive=True)
    last = np.array([ITEMS - 2])
    drawn = draw_allowed(strategy, rng.keyed(1, last), 500, prefixes, last, prefixes.mass(strategy.mass)[last])
    assert set(drawn.ravel().tolist()) == {ITEMS - 1}


def test_a_click_draws_the_same_in_any_company(strategy):
    prefixes, sets = random_prefixes(8, history=True, positive=True)
    masses = prefixes.mass(strategy.mass)
    rows = np.flatnonzero(masses < strategy.one)
    together = draw_allowed(strategy, rng.keyed(4, rows), 7, prefixes, rows, masses[rows])
    for position in (0, 5, len(rows) - 1):
        one = rows[position : position + 1]
        alone = draw_allowed(strategy, rng.keyed(4, one), 7, prefixes, one, masses[one])
        assert alone.tolist() == together[position : position + 1].tolist()
    assert len(sets) > len(rows) // 2
