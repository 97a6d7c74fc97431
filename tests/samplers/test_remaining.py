"""Where targets come to lie beyond what is excluded, exactly: against a walk along the line, in every company."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from samplers import allowed, remaining, rng, same_attribute
from samplers.availability import ALWAYS, NEVER, Availability
from samplers.exclusion import Exclusion
from samplers.places import PlacedExclusion, PlacedProposal, with_gaps
from samplers.proposal import proposal

ITEMS = 13
LEVELS = ("positive", "history", "user", "session", "listed")
COMBINATIONS = [frozenset(some) for size in range(6) for some in itertools.combinations(LEVELS, size)]


def random_log(random, levels, users=4):
    """Exclusion of users who repeat items, times and sessions."""
    counts = random.integers(1, 14, users)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    n = len(start)
    time = np.concatenate([np.sort(random.integers(0, 9, count)) for count in counts])
    keys = start * 10 + time
    end = np.searchsorted(keys, keys) if "history" in levels else start.copy()  # ties know nothing of each other
    trained_to = np.repeat(np.cumsum(counts) - counts + random.integers(0, counts + 1), counts)
    if "user" in levels:
        end = np.maximum(end, trained_to)
    lengths = random.integers(0, 4, n)
    return Exclusion(
        start, end, random.integers(0, ITEMS, n), ITEMS,
        history=not levels.isdisjoint({"history", "user"}),
        positive=bool(levels),
        session=start + random.integers(0, 3, n) % np.repeat(counts, counts) if "session" in levels else None,
        trained=np.arange(n) < trained_to,
        listed=(random.integers(0, ITEMS, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))
        if "listed" in levels
        else None,
    )  # fmt: skip


def random_strategy(random):
    """A proposal under which some items have no mass."""
    counts = random.integers(0, 3, ITEMS) * np.arange(ITEMS, 0, -1)
    counts[random.integers(ITEMS)] = 4
    return proposal([("popularity", 1.0, {"exponent": 0.75})], counts)


def questions(random, strategy, exclusion, count=9):
    """Rows in order with targets: anywhere, the first and the last there is, and on both sides of each item's begin."""
    left = strategy.one - exclusion.mass(strategy.mass)
    rows = np.repeat(np.flatnonzero(left > 0), count + 2 * ITEMS)
    anywhere = (random.random(len(rows)) * left[rows]).astype(np.int64)
    targets = anywhere.reshape(-1, count + 2 * ITEMS)
    begin = strategy.end - strategy.mass
    for own, row in zip(targets, rows[:: count + 2 * ITEMS], strict=True):
        gone = np.zeros(ITEMS, np.int64)
        gone[exclusion.items_of(int(row))] = strategy.mass[exclusion.items_of(int(row))]
        squeezed = begin - (np.cumsum(gone) - gone)
        own[: 2 * ITEMS + 2] = [0, left[row] - 1, *squeezed, *(squeezed - 1)]
        np.clip(own, 0, left[row] - 1, out=own)
    return rows, targets.reshape(-1)


def walked(strategy, exclusion, rows, target):
    """By walking along the line, past one excluded item after the other."""
    gone = {int(row): exclusion.items_of(int(row)) for row in np.unique(rows)}
    found = []
    for row, at in zip(rows.tolist(), target.tolist(), strict=True):
        passed = 0
        for item in gone[row]:
            if int(strategy.end[item] - strategy.mass[item]) <= at + passed:
                passed += int(strategy.mass[item])
        found.append(at + passed)
    return found


@pytest.mark.parametrize("levels", COMBINATIONS, ids=lambda levels: "+".join(sorted(levels)) or "none")
def test_targets_lie_where_a_walk_along_the_line_ends(levels, monkeypatch):
    moved = 0
    for seed in range(3):
        random = np.random.default_rng(seed)
        exclusion, strategy = random_log(random, levels), random_strategy(random)
        rows, target = questions(random, strategy, exclusion)
        found = remaining.positions(exclusion.runs(), strategy.end, strategy.mass, rows, target)
        assert found.tolist() == walked(strategy, exclusion, rows, target)
        assert not exclusion.excluded(rows, strategy.items(found)).any()
        listed = allowed._listed(
            strategy, exclusion, np.arange(len(exclusion.item)), rows, target
        )  # the way that lists each click's items
        assert (listed == np.asarray(found)).all()
        some = random.permutation(len(rows))[:50]  # any order, a few at a time
        monkeypatch.setattr(remaining, "AT_ONCE", 7)
        alone = remaining.positions(exclusion.runs(), strategy.end, strategy.mass, rows[some], target[some])
        monkeypatch.undo()
        assert (alone == found[some]).all()
        moved += (found != target).sum()
    assert (moved > 0) == bool(levels)


@pytest.mark.parametrize(
    "levels", [{"history", "positive"}, {"user", "session"}, {"listed"}], ids=lambda levels: "+".join(sorted(levels))
)
def test_items_at_hand_alone_are_enough(levels):
    random = np.random.default_rng(5)
    exclusion, strategy = random_log(random, levels), random_strategy(random)
    rows, target = questions(random, strategy, exclusion)
    listed, offsets = exclusion.listed or (np.zeros(0, np.int64), np.zeros(len(exclusion.item) + 1, np.int64))
    known = np.unique(np.concatenate([exclusion.item, listed]))
    table = with_gaps((strategy.end - strategy.mass)[known], strategy.mass[known])
    item, listed = (2 * np.searchsorted(known, items) + 1 for items in (exclusion.item, listed))
    told = replace(exclusion, item=item, items=len(table.mass), listed=(listed, offsets))
    placed, few = PlacedProposal(table), PlacedExclusion(told, table)
    found = allowed.inverted(placed, few, rows, np.arange(len(rows)), target)
    assert found.tolist() == walked(strategy, exclusion, rows, target)


@pytest.mark.parametrize("levels", COMBINATIONS, ids=lambda levels: "+".join(sorted(levels)) or "none")
def test_draws_within_groups_are_those_of_a_walk_along_the_group(levels, monkeypatch):
    monkeypatch.setattr(same_attribute, "REDRAWS", 0)  # all is left to the inversion
    for seed in range(3):
        random = np.random.default_rng(seed)
        exclusion, label = random_log(random, levels), random.integers(0, 4, ITEMS)
        source = same_attribute.groups(label, np.append(5, random.integers(0, 4, ITEMS - 1)), 0.75)
        part = same_attribute.SameAttribute(source, exclusion, exclusion.item, ITEMS, 6, least=1)
        rows = np.flatnonzero(part.able)
        keys = rng.keyed(seed, rows)
        drawn = part.draw(keys, rows)
        for row, key, own in zip(rows, keys, drawn, strict=True):
            gone = exclusion.items_of(int(row)).tolist()
            left = [i for i in range(ITEMS) if label[i] == label[exclusion.item[row]] and i not in gone]
            ends = np.cumsum(source.mass[left])
            target = (rng.uniforms(np.full(6, key), np.arange(6)) * ends[-1]).astype(np.int64)
            assert own.tolist() == [left[np.searchsorted(ends, at, side="right")] for at in target]
        endless = Availability.between(np.full(ITEMS, ALWAYS), np.full(ITEMS, NEVER))
        timed = replace(exclusion, time=np.zeros(len(exclusion.item), np.int64), availability=endless)
        listed = same_attribute.SameAttribute(source, timed, exclusion.item, ITEMS, 6, least=1)
        assert listed.draw(keys, rows).tolist() == drawn.tolist()


def test_where_nothing_is_excluded_targets_stay():
    strategy, row = proposal([("uniform", 1.0, {})], np.ones(ITEMS)), np.zeros(3, np.int64)
    target = np.array([0, 5, strategy.one - 1])
    assert remaining.positions([], strategy.end, strategy.mass, row, target).tolist() == target.tolist()
    assert not len(remaining.positions([], strategy.end, strategy.mass, row[:0], target[:0]))


def test_a_user_of_many_clicks_who_knows_all_but_two_items_is_no_matter_of_pairs(monkeypatch):
    """30,000 clicks after 29,998 different items, 900 million pairs of a click and an item."""
    items = 30_000
    item = np.concatenate([np.arange(items - 2), np.zeros(items, np.int64)])
    row = np.arange(len(item))
    exclusion = Exclusion(np.zeros(len(item), np.int64), row, item, items, history=True, positive=True)
    strategy = proposal([("uniform", 1.0, {})], np.ones(items))
    rows = row[items - 2 :]
    monkeypatch.setattr(Exclusion, "lists", None)
    first = strategy.mass[-2]
    target = np.where(rows % 2, first, first - 1)
    found = allowed.inverted(strategy, exclusion, rows, np.arange(len(rows)), target)
    assert (found == np.where(rows % 2, items - 1, items - 2)).all()
