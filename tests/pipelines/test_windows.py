"""Windows against what they must be, click by click, and the even spread of where long users are cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan import Plan
from pipelines.windows import cut, windows
from samplers import rng
from schemas.record import RecordSpec, window_classes

USERS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), max_size=12)  # training clicks, held-out ones


def plan_of(window, seed=3):
    spec = RecordSpec((), (), (), 5, "sequence", 10 * window, 4, "block", window=window)
    return Plan("root", "run", "catalogue", (), spec, "order", ("history",), "error", 3, seed, 2, "none")


def clicks_of_users(users):
    """(first, train, click_key) of clicks sorted by user, of whom each has so many to train on and to hold out."""
    counts = np.array([trained + held for trained, held in users], np.int64)
    start = np.cumsum(counts) - counts
    first = np.repeat(start, counts)
    train = np.arange(counts.sum()) - first < np.repeat([trained for trained, _ in users], counts)
    names = np.repeat(np.arange(len(users)), counts)
    return first, train, rng.keyed(names, np.arange(counts.sum()) - first) if counts.sum() else np.zeros(0, np.uint64)


def pieces(begin, end):
    return list(zip(begin.tolist(), end.tolist(), strict=True))


@given(USERS, st.integers(1, 12), st.data())
@settings(deadline=None, derandomize=True, max_examples=300)
def test_every_training_click_is_in_exactly_one_window_in_order(users, longest, data):
    first, train, _ = clicks_of_users(users)
    user = np.unique(first)
    offset = np.array([data.draw(st.integers(1, longest)) for _ in users], np.int64)
    clicks = np.array([trained for trained, _ in users], np.int64)
    found = pieces(*cut(user, clicks, offset, longest))
    rows = [row for begin, end in found for row in range(begin, end)]
    assert rows == np.flatnonzero(train).tolist()  # each once, and in the order of users and times
    assert all(0 < end - begin <= longest for begin, end in found)
    assert all(first[begin] == first[end - 1] for begin, end in found)
    for start, count, before in zip(user.tolist(), clicks.tolist(), offset.tolist(), strict=True):
        own = [(begin - start, end - start) for begin, end in found if start <= begin < start + count]
        if count <= longest:
            assert own == [(0, count)]
        else:
            assert own[0] == (0, before)
            assert {end - begin for begin, end in own[1:-1]} <= {longest}


@given(USERS, st.integers(1, 60), st.integers(0, 2))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_windows_are_placed_by_their_first_click_and_classed_by_their_length(users, longest, epoch):
    first, train, keys = clicks_of_users(users)
    plan = plan_of(longest)
    found = windows(first, train, keys, plan, epoch)
    assert [row for begin, end in pieces(found.begin, found.end) for row in range(begin, end)] == np.flatnonzero(
        train
    ).tolist()
    assert found.order.tolist() == [plan.order(keys[begin : begin + 1], epoch)[0] for begin in found.begin]
    classes = window_classes(longest)
    for begin, end, kind in zip(found.begin, found.end, found.kind, strict=True):
        assert end - begin <= classes[kind]
        assert kind == 0 or end - begin > classes[kind - 1]
    half = found.some(slice(1, 3))
    assert len(half) == len(found.begin[1:3])
    assert pieces(half.begin, half.end) == pieces(found.begin, found.end)[1:3]
    assert (half.order == found.order[1:3]).all()
    assert (half.kind == found.kind[1:3]).all()


@given(USERS.filter(len), st.integers(1, 9), st.integers(0, 2), st.data())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_windows_of_a_user_do_not_depend_on_other_users(users, longest, epoch, data):
    first, train, keys = clicks_of_users(users)
    plan = plan_of(longest)
    everything = windows(first, train, keys, plan, epoch)
    start = data.draw(st.sampled_from(np.unique(first).tolist()))
    own = np.flatnonzero(first == start)
    alone = windows(first[own] - start, train[own], keys[own], plan, epoch)
    mine = first[everything.begin] == start
    assert pieces(alone.begin + start, alone.end + start) == pieces(everything.begin[mine], everything.end[mine])
    assert (alone.order == everything.order[mine]).all()


def test_offsets_are_uniform_and_change_with_the_set_and_the_seed(chi_square_p):
    longest, users = 10, 20_000
    first, train, keys = clicks_of_users([(25, 0)] * users)

    def lengths(seed, epoch):
        found = windows(first, train, keys, plan_of(longest, seed), epoch)
        return (found.end - found.begin)[found.begin == first[found.begin]]

    told = {(seed, epoch): lengths(seed, epoch) for seed in (3, 4) for epoch in (0, 1)}
    for observed in told.values():
        assert (observed.min(), observed.max()) == (1, longest)
        counts = np.bincount(observed, minlength=longest + 1)[1:]
        assert 1e-4 < chi_square_p(counts, np.full(longest, users / longest)) < 1 - 1e-4
    base = told[3, 0]
    for other in (told[3, 1], told[4, 0]):
        same = int((base == other).sum())
        assert abs(same - users / longest) < 5 * (users / longest) ** 0.5
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.04


@pytest.mark.parametrize(("count", "windows_of_it"), [(9, 1), (10, 1), (11, None)])
def test_a_user_of_up_to_a_window_is_one_window_in_every_set(count, windows_of_it):
    first, train, keys = clicks_of_users([(count, 3)] * 50)
    for epoch in range(3):
        found = windows(first, train, keys, plan_of(10), epoch)
        if windows_of_it:
            assert (found.end - found.begin == count).all()
        else:
            assert len(found) == 2 * 50  # 11 clicks are cut once, wherever


def test_classes_rise_to_the_window_itself():
    assert window_classes(200) == (25, 50, 75, 100, 150, 200)
    assert window_classes(1) == (1,)
    assert window_classes(5) == (1, 2, 3, 4, 5)
    for window in range(1, 300):
        classes = window_classes(window)
        assert classes[-1] == window
        assert list(classes) == sorted(set(classes))
        assert classes[0] >= 1


def test_no_clicks_are_no_windows():
    nothing = np.zeros(0, np.int64)
    assert len(windows(nothing, np.zeros(0, bool), np.zeros(0, np.uint64), plan_of(10), 0)) == 0
    # Nor is a user whose clicks are all held out.
    first, train, keys = clicks_of_users([(0, 2), (3, 0), (0, 1)])
    found = windows(first, train, keys, plan_of(10), 0)
    assert pieces(found.begin, found.end) == [(2, 5)]
