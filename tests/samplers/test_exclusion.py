"""What is excluded against plain sets, for every combination of levels, on logs where everything happens at once."""

import itertools

import numpy as np
import pytest

from samplers import exclusion as module
from samplers.availability import ALWAYS, NEVER, Availability
from samplers.exclusion import Exclusion
from samplers.pairs import Pairs
from samplers.proposal import proposal

ITEMS = 12
LEVELS = ("positive", "history", "user", "session", "listed", "available")
COMBINATIONS = [frozenset(some) for size in range(7) for some in itertools.combinations(LEVELS, size)]


@pytest.fixture(autouse=True)
def users_of_both_kinds(monkeypatch):
    """Of so few items nearly every user would be one who knows many."""
    monkeypatch.setattr(module, "DENSE", 3)


@pytest.fixture
def strategy():
    return proposal([("popularity", 0.9, {"exponent": 0.75}), ("uniform", 0.1, {})], np.arange(ITEMS, 0, -1))


def random_log(seed, levels, users=30):
    """Exclusion of random users who repeat items, times and sessions, and the same as plain sets."""
    random = np.random.default_rng(seed)
    start, end, item, time, session = (list[int]() for _ in range(5))
    trained: list[bool] = []
    for _ in range(users):
        begin, count = len(item), int(random.integers(1, 12))
        moments = np.sort(random.integers(0, 10, count))
        training = int(random.integers(0, count + 1))
        earlier = np.searchsorted(moments, moments) if "history" in levels else np.zeros(count, np.int64)
        start += [begin] * count
        end += (begin + np.maximum(earlier, training if "user" in levels else 0)).tolist()
        item += random.integers(0, ITEMS, count).tolist()
        time += moments.tolist()
        session += (begin + random.integers(0, min(3, count), count)).tolist()  # they may overlap in time
        trained += (np.arange(count) < training).tolist()
    lists = [random.integers(0, ITEMS, int(random.integers(0, 4))).tolist() for _ in item]
    begins = np.where(random.random(ITEMS) < 0.5, random.integers(0, 8, ITEMS), ALWAYS)
    ends = np.where(random.random(ITEMS) < 0.5, random.integers(2, 11, ITEMS), NEVER)  # some before they begin
    values, offsets = (
        np.array([number for some in lists for number in some]),
        np.concatenate([[0], np.cumsum([len(some) for some in lists])]),
    )
    exclusion = Exclusion(
        np.array(start), np.array(end), np.array(item), ITEMS,
        history=not levels.isdisjoint({"history", "user"}),
        positive=not levels <= {"available"},
        session=np.array(session) if "session" in levels else None,
        trained=np.array(trained),
        listed=(values, offsets) if "listed" in levels else None,
        time=np.array(time),
        availability=Availability.between(begins, ends) if "available" in levels else None,
    )  # fmt: skip
    sets = []
    for row in range(len(item)):
        gone = set() if levels <= {"available"} else {item[row]}
        if not levels.isdisjoint({"history", "user"}):
            gone |= set(item[start[row] : end[row]])
        if "session" in levels:
            gone |= {other for other, s, t in zip(item, session, trained, strict=True) if s == session[row] and t}
        if "listed" in levels:
            gone |= set(lists[row])
        if "available" in levels:
            gone |= {i for i in range(ITEMS) if not begins[i] <= time[row] < ends[i]}
        sets.append(gone)
    return exclusion, sets


@pytest.mark.parametrize("levels", COMBINATIONS, ids=lambda levels: "+".join(sorted(levels)) or "none")
def test_excluded_items_and_their_mass_are_those_of_plain_sets(levels, strategy):
    exclusion, sets = random_log(3, levels)
    clicks = np.arange(len(sets))
    everything = np.tile(np.arange(ITEMS), (len(sets), 1))
    label = np.random.default_rng(4).integers(-1, 2, ITEMS)
    beside = exclusion.excluded(np.repeat(clicks, ITEMS), everything.reshape(-1)).reshape(len(sets), ITEMS)
    found, masses, alike = (
        exclusion.excluded(clicks[:, None], everything),
        *(exclusion.mass(strategy.mass, by) for by in (None, label)),
    )
    assert (found == beside).all()
    listed, lengths = exclusion.lists(clicks)
    assert (lengths <= exclusion.sizes(clicks)).all()
    for click, (expected, own) in enumerate(zip(sets, np.split(listed, np.cumsum(lengths)[:-1]), strict=True)):
        assert set(np.flatnonzero(found[click]).tolist()) == expected
        assert own.tolist() == exclusion.items_of(click).tolist() == sorted(expected)
        # Whole numbers: exactly equal.
        assert int(masses[click]) == sum(int(strategy.mass[i]) for i in expected)
        same = label[exclusion.item[click]]
        assert int(alike[click]) == sum(int(strategy.mass[i]) for i in expected if label[i] == same)


def test_every_combination_excludes_something_else():
    """Or the brute force above would prove nothing of a level that never matters."""
    told = {levels: tuple(map(frozenset, random_log(3, levels)[1])) for levels in COMBINATIONS if len(levels) == 1}
    told[frozenset()] = tuple(map(frozenset, random_log(3, frozenset())[1]))
    assert len(set(told.values())) == 7


def test_the_mass_of_everything_is_exactly_one(strategy):
    rows = ITEMS
    exclusion = Exclusion(np.zeros(rows, int), np.arange(rows), np.arange(rows), ITEMS, history=True, positive=True)
    assert int(exclusion.mass(strategy.mass)[-1]) == strategy.one
    nothing = Availability.between(np.full(ITEMS, 5), np.full(ITEMS, 5))
    one = np.zeros(1, int)
    closed = Exclusion(one, one, one, ITEMS, False, True, time=np.array([5]), availability=nothing)
    assert closed.mass(strategy.mass).tolist() == [strategy.one]


def test_limits_of_availability_are_inclusive_and_exclusive():
    limits = Availability.between(np.array([10, ALWAYS, ALWAYS, 30]), np.array([20, 10, NEVER, 20]))
    times = np.array([9, 10, 19, 20])
    found = [np.flatnonzero(limits.unavailable(np.arange(4), time)).tolist() for time in times]
    assert found == [[0, 3], [1, 3], [1, 3], [0, 1, 3]]  # the last never was: it ends before it begins
    mass = np.array([1, 10, 100, 1000])
    assert limits.mass(times, mass).tolist() == [1001, 1010, 1010, 1011]
    items, totals = limits.totals(times[::-1], np.array([1.0, 2.0, 4.0, 8.0]))  # of 20, 19, 10, 9
    assert np.bincount(items, totals, 4).tolist() == [9, 7, 0, 15]


def test_first_clicks_of_users_who_know_little_and_of_one_who_knows_nearly_all():
    random, items = np.random.default_rng(4), 300
    counts = [1, 150, 3, 40, 2000, 7, 101]
    start, item = np.repeat(np.cumsum([0, *counts[:-1]]), counts), random.integers(0, items, sum(counts))
    found = Exclusion(start, start, item, items, history=True, positive=False)
    users, every = np.unique(start), np.arange(items)
    first = {}
    for row in reversed(range(len(item))):
        first[start[row], item[row]] = row
    expected = [[first.get((user, one), -1) for one in every] for user in users]
    asked = found.first_click(np.repeat(users, items), np.tile(every, len(users)))
    assert asked.reshape(len(users), items).tolist() == expected
    assert len(found._heavy[0]) == 2  # those of 150 and 2,000 clicks
    assert len(Exclusion(start[:1], start[:1], item[:1], items, True, False)._heavy[0]) == 0


def test_a_table_of_hashed_pairs_denies_most_pairs_and_never_one_that_is_there():
    random = np.random.default_rng(1)
    items, users = 50_000, 300
    keys = np.unique(random.integers(0, users, 20_000) * items + random.integers(0, items, 20_000))
    pairs = Pairs(keys)
    assert pairs.maybe(keys // items * items, keys % items).all()
    strangers = random.integers(0, items, (users, 200))
    firsts = np.arange(users)[:, None] * items
    known = pairs.place(firsts + strangers)[1]
    assert known.sum() == np.isin(firsts + strangers, keys).sum()
    assert pairs.maybe(firsts, strangers)[~known].mean() < 1 / 16
    assert not Pairs(keys[:0]).place(keys)[1].any()
