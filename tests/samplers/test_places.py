"""Draws with a few items at hand against draws with all of them: the same positions on the line, so the same items."""

import numpy as np
import pytest

from samplers import allowed, anchored, rng
from samplers.allowed import draw_allowed
from samplers.exclusion import Exclusion
from samplers.inversion import of_mass
from samplers.mass import ONE
from samplers.places import PlacedExclusion, PlacedProposal, with_gaps
from samplers.proposal import proposal

ITEMS = 300


def history_of(item, items):
    """Three users with ten clicks each."""
    rows = np.arange(len(item))
    return Exclusion(rows // 10 * 10, rows, item, items, history=True, positive=True)


@pytest.fixture
def strategy():
    counts = np.sort(np.random.default_rng(8).zipf(1.2, ITEMS).clip(max=10**5))[::-1].copy()
    counts[200:] = 0  # 100 items that are never drawn, some of which are clicked all the same
    return proposal([("popularity", 1.0, {"exponent": 0.9})], counts)


@pytest.mark.parametrize(("redraws", "anchor"), [(1, 100), (3, 100), (allowed.REDRAWS, 100), (allowed.REDRAWS, 4)])
def test_what_is_drawn_does_not_depend_on_which_items_are_at_hand(strategy, redraws, anchor, monkeypatch):
    monkeypatch.setattr(allowed, "REDRAWS", redraws)  # 1 leaves all refused draws to the inversion
    monkeypatch.setattr(anchored, "EVERY", anchor)
    monkeypatch.setattr(anchored, "SHARE", 1)
    item = np.random.default_rng(3).choice(ITEMS, 30, p=np.r_[np.full(8, 0.1), np.full(292, 0.2 / 292)])
    everything = history_of(item, ITEMS)
    rows, keys = np.arange(30), rng.keyed(2, np.arange(30))
    expected = draw_allowed(strategy, keys, 400, everything, rows, everything.mass(strategy.mass))

    known = np.unique(item)
    table = with_gaps((strategy.end - strategy.mass)[known], strategy.mass[known])
    local = 2 * np.searchsorted(known, item) + 1
    placed, few = PlacedProposal(table), history_of(local, len(table.mass))
    excluded = few.mass(placed.mass)
    assert excluded.tolist() == everything.mass(strategy.mass).tolist()
    position = draw_allowed(placed, keys, 400, PlacedExclusion(few, table), rows, excluded)
    assert (strategy.items(position) == expected).all()
    assert not everything.excluded(rows[:, None], strategy.items(position)).any()
    without = PlacedExclusion(history_of(np.full(30, 0), len(table.mass)), table)
    careless = draw_allowed(placed, keys, 400, without, rows, excluded)
    assert everything.excluded(rows[:, None], strategy.items(careless)).any()  # there was something to refuse


def test_items_at_hand_and_gaps_make_up_the_whole_line():
    table = with_gaps(np.array([0, 10, 10, ONE - 5]), np.array([4, 0, 7, 5]))
    assert table.mass.tolist() == [0, 4, 6, 0, 0, 7, ONE - 5 - 17, 5, 0]
    assert table.items(np.array([0, 3, 4, 9, 10, 16, 17, ONE - 6, ONE - 5])).tolist() == [1, 1, 2, 2, 5, 5, 6, 6, 7]
    assert with_gaps(np.zeros(0, np.int64), np.zeros(0, np.int64)).mass.tolist() == [ONE]


def test_an_item_wherever_the_line_is_cut_is_the_same():
    mass = proposal([("uniform", 1.0, {})], np.ones(97, np.int64)).mass
    whole, begin = of_mass(mass), np.cumsum(mass) - mass
    position = rng.positions(rng.keyed(1, np.arange(5_000)), 0)
    odd = np.arange(1, 97, 2)
    found = with_gaps(begin[odd], mass[odd]).items(position)
    items = whole.items(position)
    assert (found[items % 2 == 1] == 2 * (items[items % 2 == 1] // 2) + 1).all()
    assert (found[items % 2 == 0] % 2 == 0).all()
