"""Different negatives for each click: exact inclusion probabilities by bisection, simulation, brute-force exclusion."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import rng, unique_clicks
from samplers.exclusion import Exclusion
from samplers.inversion import inversion_table
from samplers.unique_quotas import Quotas

WEIGHT = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
WEIGHTS = st.lists(WEIGHT, min_size=2, max_size=40).filter(lambda weights: max(weights) > 0)


def bisected(q, count):
    """pi_i = min(1, c q_i) that sum to count, c found by bisection."""
    low, high = -1.0, 700.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, math.exp(middle) * q).sum() < count else (low, middle)
    return np.minimum(1, math.exp(high) * q)


def one_user(item, items, history=True, positive=True):
    """The clicks of one user, each with what precedes it and its own item excluded."""
    rows = np.arange(len(item))
    return Exclusion(np.zeros(len(item), np.int64), rows, np.asarray(item), items, history, positive)


def excluded_of(item, row):
    return np.unique(np.asarray(item)[: row + 1])


def sampler(weights, count):
    table = inversion_table(weights)
    return unique_clicks.unique_clicks(table.mass, table.one, count)


def log_q(draws, quotas):
    """[clicks, items] as a reader of blocks puts it together."""
    items = draws.log_expected(np.arange(len(draws.mass)))
    return np.minimum(items[None, :] - draws.log_allowed(quotas)[:, None], 0)


def repeated(quotas, row, times):
    """The quotas of one click, so many times."""
    assert not quotas.short[row]
    own = quotas.certain[quotas.owner == row]
    fields = (np.repeat(values[row], times) for values in (quotas.points, quotas.rest, quotas.log_scale))
    return Quotas(np.zeros(times, bool), np.repeat(np.arange(times), len(own)), np.tile(own, times), *fields)


@given(WEIGHTS, st.data())
@settings(deadline=None, derandomize=True, max_examples=150)
def test_log_q_is_the_inclusion_probability_of_a_bisection(weights, data):
    items = len(weights)
    clicked = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=12))
    drawable = int((np.asarray(weights) > 0).sum())
    count = data.draw(st.integers(1, drawable))
    draws, prefixes = sampler(weights, count), one_user(clicked, items)
    rows = np.arange(len(clicked))
    quotas = draws.quotas(prefixes, rows)
    found = np.exp(log_q(draws, quotas))
    for row in rows:
        q = draws.mass / draws.one
        q[excluded_of(clicked, row)] = 0
        assert quotas.short[row] == ((q > 0).sum() < count)
        if quotas.short[row]:
            continue
        expected = bisected(q, count)
        np.testing.assert_allclose(found[row][q > 0], expected[q > 0], rtol=1e-6, atol=1e-9)
        assert (quotas.owner == row).sum() + quotas.points[row] == count
    without = np.exp(np.minimum(draws.log_expected(np.arange(items)), 0))
    np.testing.assert_allclose(without, bisected(draws.mass / draws.one, count), rtol=1e-6, atol=1e-9)
    able = np.flatnonzero(~quotas.short)
    drawn = draws.draw(rng.keyed(3, able), quotas.of(able), prefixes, able)
    assert drawn.shape == (len(able), count)
    for row, own in zip(able, drawn, strict=True):
        assert len(set(own.tolist())) == count
        assert not np.isin(own, excluded_of(clicked, row)).any()
        assert (draws.mass[own] > 0).all()
        assert set(quotas.certain[quotas.owner == row].tolist()) <= set(own.tolist())


@pytest.mark.parametrize(
    ("weights", "clicked", "count"),
    [
        ([5, 4, 3, 2, 1, 1], [5], 2),  # nothing is certain
        ([90, 40, 3, 2, 1, 1, 1], [6], 3),  # two items are
        ([90, 40, 3, 2, 1, 1, 1, 0], [0, 3], 3),  # one is, as the most popular is excluded
        ([3, 2, 2, 1, 1], [0, 4], 3),  # all that are left
        (1 / np.arange(1, 200) ** 1.3, [0, 7, 3, 150, 20, 9], 20),
        (np.ones(150), np.arange(0, 60, 2), 30),
        (np.r_[1e9, np.ones(30), 1e-6], [4, 5], 8),
    ],
)
@pytest.mark.parametrize("cells", [1, 5, 64])
def test_each_item_is_drawn_as_often_as_its_log_q_says(weights, clicked, count, cells, monkeypatch):
    monkeypatch.setattr(unique_clicks, "FEWEST_CELLS", cells)
    monkeypatch.setattr(unique_clicks, "MOST_CELLS", cells)
    items, times, row = len(weights), 6_000, len(clicked) - 1
    draws, prefixes = sampler(weights, count), one_user(clicked, items)
    quotas = draws.quotas(prefixes, np.arange(len(clicked)))
    expected = np.exp(log_q(draws, quotas))[row]
    expected[excluded_of(clicked, row)] = 0
    assert expected.sum() == pytest.approx(count, abs=1e-6)
    rows = np.full(times, row)
    drawn = draws.draw(rng.keyed(5, np.arange(times)), repeated(quotas, row, times), prefixes, rows)
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    held = np.bincount(drawn.reshape(-1), minlength=items) / times
    deviation = np.sqrt(np.maximum(expected * (1 - expected), 0) / times)
    assert (np.abs(held - expected) <= 4.5 * deviation + 1e-6).all()


@pytest.mark.parametrize("mass", [[1] * 12, [4, 1, 2, 3, 1, 1, 2, 2], [3, 3, 3, 3, 3, 3, 1]])
@pytest.mark.parametrize("cells", [1, 3])
def test_masses_so_small_that_points_fall_on_edges(mass, cells, monkeypatch):
    monkeypatch.setattr(unique_clicks, "FEWEST_CELLS", cells)
    monkeypatch.setattr(unique_clicks, "MOST_CELLS", cells)
    times, count, items = 40_000, 3, len(mass)
    draws = unique_clicks.unique_clicks(np.array(mass), sum(mass), count)
    prefixes = one_user([1, 2], items)
    quotas = repeated(draws.quotas(prefixes, np.arange(2)), 1, times)
    drawn = draws.draw(rng.keyed(6, np.arange(times)), quotas, prefixes, np.ones(times, np.int64))
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    q = np.array(mass, float)
    q[[1, 2]] = 0
    expected = bisected(q / sum(mass), count)
    deviation = np.sqrt(expected * (1 - expected) / times)
    held = np.bincount(drawn.reshape(-1), minlength=items) / times
    assert (np.abs(held - expected) <= 4.5 * deviation + 1e-6).all()


def test_pairs_of_items_meet_as_if_independent():
    items, count, times = 256, 16, 30_000
    draws = sampler(np.ones(items), count)
    prefixes = one_user([0], items, positive=False)
    quotas = repeated(draws.quotas(prefixes, np.arange(1)), 0, times)
    held = np.zeros((times, items), np.float32)
    drawn = draws.draw(rng.keyed(7, np.arange(times)), quotas, prefixes, np.zeros(times, np.int64))
    held[np.arange(times)[:, None], drawn] = 1
    upper = np.triu_indices(items, 1)
    meet = (held.T @ held)[upper] / times
    never = meet == 0
    assert never.mean() == pytest.approx(1 / 64, rel=0.3)
    expected = count * (count - 1) / (items * (items - 1)) / (1 - never.mean())
    chance = math.sqrt(expected / times)
    assert np.abs(meet[~never] - expected).max() < 6 * chance
    following = np.corrcoef(held[:-1, 3], held[1:, 3])[0, 1]
    assert abs(following) < 5 / math.sqrt(times)


@pytest.mark.parametrize(("history", "positive"), [(True, True), (True, False), (False, True), (False, False)])
def test_lists_are_the_items_of_each_click(history, positive):
    random = np.random.default_rng(4)
    start = np.repeat([0, 20, 21, 50], [20, 1, 29, 30])
    end = np.maximum(start, np.arange(80) - random.integers(0, 3, 80))
    prefixes = Exclusion(start, end, random.integers(0, 9, 80), 9, history, positive)
    rows = random.permutation(80)[:60]
    items, lengths = prefixes.lists(rows)
    assert lengths.sum() == len(items)
    for row, own in zip(rows, np.split(items, np.cumsum(lengths)[:-1]), strict=True):
        assert sorted(own.tolist()) == prefixes.items_of(int(row)).tolist()


def test_a_click_draws_the_same_in_any_company(monkeypatch):
    random = np.random.default_rng(2)
    clicked = random.integers(0, 60, 40)
    draws, prefixes = sampler(random.pareto(1, 60), 9), one_user(clicked, 60)
    rows = np.arange(40)
    quotas = draws.quotas(prefixes, rows)
    rows = rows[~quotas.short]
    assert len(quotas.certain) > 20
    together = draws.draw(rng.keyed(4, rows), quotas.of(rows), prefixes, rows)
    monkeypatch.setattr(unique_clicks, "AT_ONCE", 300)  # so few at a time
    assert (draws.draw(rng.keyed(4, rows), quotas.of(rows), prefixes, rows) == together).all()
    for position in (0, 5, len(rows) - 1):
        one = rows[position : position + 1]
        alone = draws.draw(rng.keyed(4, one), draws.quotas(prefixes, one), prefixes, one)
        assert alone.tolist() == together[position : position + 1].tolist()


def test_too_few_items_are_an_error_that_names_the_numbers():
    with pytest.raises(ValueError, match=r"^4 different items wanted, 3 can be drawn$"):
        sampler([3, 0, 2, 1, 0], 4)


def test_real_frequencies_and_histories(ml_100k):
    """MovieLens-100k, 150 negatives a click by popularity: every item as often as the sum of its probabilities."""
    import pyarrow.parquet as pq

    table = pq.read_table(ml_100k / "clicks.parquet", filters=[("user_id", "<=", 120)])
    user, item, time = (table[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    ids, counts = np.unique(item, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    rank = np.empty(len(ids), np.int64)
    rank[ranked] = np.arange(len(ids))
    order = np.lexsort((item, time, user))
    user, item = user[order], rank[np.searchsorted(ids, item[order])]
    rows, items, count = np.arange(len(user)), len(ids), 150
    prefixes = Exclusion(np.searchsorted(user, user), rows, item, items, history=True, positive=True)
    draws = sampler(np.sort(counts)[::-1].astype(float), count)
    quotas = draws.quotas(prefixes, rows)
    assert not quotas.short.any()
    assert len(quotas.certain) > 1_000
    drawn = draws.draw(rng.keyed(8, rows), quotas, prefixes, rows)
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    assert not prefixes.excluded(np.repeat(rows, count), drawn.reshape(-1)).any()
    expected, variance = np.zeros(items), np.zeros(items)
    for number in np.unique(user):
        mine = np.flatnonzero(user == number)
        gone = np.zeros((len(mine), items), bool)
        for position, row in enumerate(mine):
            gone[position:, item[row]] = True
        pi = np.where(gone, 0, np.exp(log_q(draws, quotas.of(mine))))
        np.testing.assert_allclose(pi.sum(axis=1), count, rtol=1e-6)
        expected, variance = expected + pi.sum(axis=0), variance + (pi * (1 - pi)).sum(axis=0)
    observed = np.bincount(drawn.reshape(-1), minlength=items)
    deviation = (observed - expected) / np.sqrt(variance + 1e-9)
    assert np.abs(deviation).max() < 5
    assert deviation.std() < 1.1
