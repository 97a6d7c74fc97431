"""Runs of accidental hits against a look at every click and every slot of its pool."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import estimate, hits
from pipelines.exclusion import exclusion
from pipelines.history import Ranges
from pipelines.windows import Windows, cut
from samplers import rng
from samplers.availability import Availability
from samplers.exclusion import Exclusion
from samplers.unique import unique_pools

ITEMS = 9
# Levels by name: those of which a hit is a user's from some click on, and those that come and go.
EXCLUDED = {"none": (), "positive": ("positive",), "history": ("history",), "user": ("user",)}
FLEETING = {"session": ("session",), "all": ("history", "listed", "session")}


def random_world(seed, ties, exclude, items=ITEMS, longest=6):
    """Exclusion of users who click few items often, with held-out clicks behind, and their windows."""
    random = np.random.default_rng(seed)
    start: list[int] = []
    end: list[int] = []
    item: list[int] = []
    time: list[int] = []
    users: list[int] = []
    trained: list[int] = []
    for _ in range(25):
        begin, count = len(item), int(random.integers(1, 25))
        moments = np.sort(random.integers(0, 8, count))
        time += moments.tolist()
        users.append(begin)
        trained.append(int(random.integers(0, count + 1)))
        for row in range(count):
            start.append(begin)
            end.append(begin + (row if ties == "order" else int(np.searchsorted(moments, moments[row]))))
        # Runs of one item make identical clicks.
        item += np.repeat(random.integers(0, items, count), random.integers(1, 3, count))[:count].tolist()
    train = np.concatenate(
        [np.arange(e - b) < t for b, e, t in zip(users, [*users[1:], len(item)], trained, strict=True)]
    )
    lists = random.integers(0, items, 2 * len(item))
    prefixes = exclusion(
        (EXCLUDED | FLEETING)[exclude], Ranges(np.array(start), np.array(end)), np.array(item), items,
        time=np.array(time), train=train, gap=1, listed=(lists, np.arange(len(item) + 1) * 2),
        availability=Availability.between(np.arange(items) - 4, np.arange(items) + 5) if exclude == "all" else None,
    )  # fmt: skip
    begins, ends = cut(np.array(users), np.array(trained), random.integers(1, longest + 1, len(users)), longest)
    return prefixes, Windows(begins, ends, np.zeros(len(begins), np.uint64), np.zeros(len(begins), np.int64))


def pools_of(seed, pools, count, unique):
    random = np.random.default_rng(seed)
    if unique:
        return unique_pools(np.full(ITEMS, 1 / ITEMS), count).draw(rng.keyed(seed, np.arange(pools)))
    return random.integers(0, ITEMS, (pools, count))


def spread(flat, counts, found):
    """{(row, slot)} that the runs cover; each at most once, and none beyond its window."""
    lengths = found.end - found.begin
    rows = np.concatenate([np.arange(b, e) for b, e in zip(found.begin, found.end, strict=True)])
    last = np.repeat(found.end, lengths)
    ends = np.cumsum(counts)
    covered = set()
    for click, row in enumerate(rows):
        told = flat[ends[click] - counts[click] : ends[click]].reshape(-1, 2)
        for slot, length in told.tolist():
            assert length >= 1
            assert row + length <= last[click]
            for covers in range(row, row + length):
                assert (covers, slot) not in covered
                covered.add((covers, slot))
    return covered


@pytest.mark.parametrize("unique", [True, False], ids=["different", "repeated"])
@pytest.mark.parametrize("ties", ["order", "exclude"])
@pytest.mark.parametrize("exclude", EXCLUDED | FLEETING)
def test_runs_cover_exactly_the_excluded_clicks_and_slots(exclude, ties, unique):
    total = 0
    for seed in range(12):
        prefixes, found = random_world(seed, ties, exclude)
        pools = pools_of(seed, 4, 5, unique)
        pool = np.random.default_rng(seed + 100).integers(0, 4, len(found))
        flat, counts = hits.runs(prefixes, found, pools, pool)
        expected = set()
        for window, (begin, end) in enumerate(zip(found.begin, found.end, strict=True)):
            for row in range(begin, end):
                here = prefixes.excluded(np.full(5, row), pools[pool[window]])
                # And by plain sets, which know nothing of runs.
                had = set(prefixes.items_of(row).tolist())
                if exclude in EXCLUDED:
                    told = prefixes.item[prefixes.start[row] : prefixes.end[row]] if prefixes.history else []
                    assert had == {*map(int, told), *([int(prefixes.item[row])] if prefixes.positive else [])}
                assert here.tolist() == [int(item) in had for item in pools[pool[window]]]
                expected |= {(row, slot) for slot in np.flatnonzero(here).tolist()}
        assert len(counts) == int((found.end - found.begin).sum())
        assert counts.sum() == len(flat)
        assert spread(flat, counts, found) == expected
        total += len(expected)
    assert total == 0 if exclude == "none" else total > 300


def test_what_a_user_had_before_the_window_is_a_run_from_its_first_click():
    # One user, items 0 1 2 3; the second window is rows [2, 4). Nothing is said twice of item 0.
    prefixes = Exclusion(np.zeros(4, int), np.arange(4), np.array([0, 1, 2, 3]), 6, history=True, positive=True)
    found = Windows(np.array([0, 2]), np.array([2, 4]), np.zeros(2, np.uint64), np.zeros(2, np.int64))
    flat, counts = hits.runs(prefixes, found, np.array([[0, 3, 5]]), np.zeros(2, np.int64))
    assert flat.tolist() == [0, 2, 0, 2, 1, 1]  # (slot, length): item 0 twice whole, item 3 from its own click
    assert counts.tolist() == [2, 0, 2, 2]


def test_runs_of_a_long_window_are_few():
    """What makes sequences small: a click costs at most one run, however long the window goes on."""
    clicks = 500
    prefixes = Exclusion(np.zeros(clicks, int), np.arange(clicks), np.arange(clicks) % 50, 60, True, True)
    found = Windows(np.array([0]), np.array([clicks]), np.zeros(1, np.uint64), np.zeros(1, np.int64))
    flat, _ = hits.runs(prefixes, found, np.arange(60)[None, :], np.zeros(1, np.int64))
    assert len(flat) == 2 * 50


@pytest.mark.parametrize("exclude", EXCLUDED | FLEETING)
def test_no_windows_have_no_runs(exclude):
    prefixes, found = random_world(1, "order", exclude)
    flat, counts = hits.runs(prefixes, found.some(slice(0)), np.zeros((0, 5), np.int64), np.zeros(0, np.int64))
    assert (len(flat), len(counts)) == (0, 0)


@pytest.mark.parametrize("exclude", ["history", "user", "all"])
@pytest.mark.parametrize("ties", ["order", "exclude"])
def test_a_step_of_windows_says_the_same_as_all_of_them(ties, exclude, monkeypatch):
    """The task takes windows some at a time, while users stay whole."""
    monkeypatch.setattr(hits, "PAIRS", 60)
    prefixes, found = random_world(5, ties, exclude)
    pools, pool = pools_of(5, 3, 5, True), np.arange(len(found)) % 3
    flat, counts = hits.runs(prefixes, found, pools, pool)
    parts = [
        hits.runs(prefixes, found.some(slice(begin, begin + 4)), pools, pool[begin : begin + 4])
        for begin in range(0, len(found), 4)
    ]
    assert np.concatenate([part[0] for part in parts]).tolist() == flat.tolist()
    assert np.concatenate([part[1] for part in parts]).tolist() == counts.tolist()


@pytest.mark.parametrize("ties", ["order", "exclude"])
@pytest.mark.parametrize("exclude", EXCLUDED | FLEETING)
def test_the_estimate_of_runs_is_their_number_over_all_items(exclude, ties, monkeypatch):
    """With a pool of every item once and equal probabilities, an expectation over slots is a count."""
    monkeypatch.setattr(estimate, "SLOTS", 4_000)  # what is estimated from drawn slots comes near it
    prefixes, _ = random_world(3, ties, exclude)
    user, counts = np.unique(prefixes.start, return_counts=True)
    train = np.arange(len(prefixes.item)) - prefixes.start < np.repeat(counts - counts // 4, counts)
    catalogue = SimpleNamespace(drawn=np.full(ITEMS, 1 / ITEMS))
    told = estimate._windows(prefixes.start, train, prefixes.item, prefixes, catalogue, 6)  # type: ignore[arg-type]
    trained = np.add.reduceat(train, user, dtype=np.int64)
    begins, ends = cut(user, trained, np.random.default_rng(0).integers(1, 7, len(user)), 6)
    found = Windows(begins, ends, np.zeros(len(begins), np.uint64), np.zeros(len(begins), np.int64))
    _, numbers = hits.runs(prefixes, found, np.arange(ITEMS)[None, :], np.zeros(len(begins), np.int64))
    before = np.concatenate([[0], np.cumsum(ends - begins)])
    expected = [numbers[before[w] : before[w + 1]].sum() / 2 for w in range(len(begins))]
    assert told["windows"].tolist() == (ends - begins).tolist()
    near = None if exclude in EXCLUDED else 0.5
    assert (told["runs"] * ITEMS).tolist() == pytest.approx(expected, abs=near)
    assert sum(expected) > 50 or exclude == "none"
