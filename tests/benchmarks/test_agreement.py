"""The benchmark's own check finds what a wrong job would write; a right one passes. Random numbers are seeded."""

from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.agreement import Found, Inputs, Records, joined, popularity

ITEMS, CLICKS, COUNT = 30, 4_000, 5


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    item = np.minimum(rng.geometric(0.15, CLICKS) - 1, ITEMS - 1)
    return Inputs(
        rng.integers(1, 50, CLICKS), item, rng.integers(0, 1000, CLICKS),
        np.array([f"c{i % 4}" for i in range(ITEMS)], object), np.array([f"b{i}" for i in range(ITEMS)], object),
        np.arange(ITEMS, dtype=np.float32), np.array([f"t{i} t{i % 3}" for i in range(ITEMS)], object),
    )  # fmt: skip


@pytest.fixture
def records(inputs):
    rng, q = np.random.default_rng(2), np.bincount(inputs.item, minlength=ITEMS) ** 0.75
    q /= q.sum()
    item = np.zeros((CLICKS, 1 + COUNT), int)
    for row, positive in enumerate(inputs.item):
        others = np.where(np.arange(ITEMS) == positive, 0, q)
        item[row] = [positive, *rng.choice(ITEMS, COUNT, p=others / others.sum())]
    log_q = np.log(COUNT * q[item])
    log_q[:, 1:] -= np.log(1 - q[inputs.item])[:, None]
    flat = item.reshape(-1)
    return Records(
        inputs.user, inputs.time, item, log_q,
        inputs.category[flat], inputs.brand[flat], inputs.price[flat], inputs.tags[flat],
    )  # fmt: skip


def problems(records, inputs):
    found = Found.nothing(inputs)
    found.add(records, inputs)
    return found.verdict(inputs, COUNT)[0]


def test_right_records_pass(records, inputs):
    assert problems(records, inputs) == []


@pytest.mark.parametrize("name", ["category", "brand", "price", "tags"])
def test_one_wrong_attribute_is_found(records, inputs, name):
    values = getattr(records, name).copy()
    at = 11 * (1 + COUNT) + 3
    values[at] = getattr(inputs, name)[(records.item.reshape(-1)[at] + 1) % ITEMS]
    assert problems(replace(records, **{name: values}), inputs) == [f"1 candidates with another item's {name}"]


def test_a_positive_among_negatives_is_found(records, inputs):
    item = records.item.copy()
    item[5, 2] = item[5, 0]
    flat = item.reshape(-1)
    wrong = replace(
        records, item=item, category=inputs.category[flat], brand=inputs.brand[flat], price=inputs.price[flat],
        tags=inputs.tags[flat],
    )  # fmt: skip
    assert "1 negatives that are the click's own item" in problems(wrong, inputs)


def test_a_lost_click_is_found(records, inputs):
    found = Found.nothing(inputs)
    rows = slice(1, None)
    flat = slice(1 + COUNT, None)
    found.add(
        Records(
            records.user[rows], records.time[rows], records.item[rows], records.log_q[rows],
            records.category[flat], records.brand[flat], records.price[flat], records.tags[flat],
        ),
        inputs,
    )  # fmt: skip
    wrong = found.verdict(inputs, COUNT)[0]
    assert wrong == [f"{CLICKS - 1} records for {CLICKS} clicks", "the positives are not the clicks"]


def test_a_click_twice_in_place_of_another_is_found(records, inputs):
    user = records.user.copy()
    user[0] += 1
    assert problems(replace(records, user=user), inputs) == ["the positives are not the clicks"]


def test_uniform_negatives_are_found():
    expected = np.linspace(100, 300, 200)
    drawn = np.random.default_rng(3).poisson(expected)
    assert abs(popularity(drawn, expected)["z"]) < 4
    assert popularity(np.full(200, 200), expected)["z"] > 100


def test_log_q_without_exclusion_is_found(records, inputs):
    off = records.log_q.copy()
    off[:, 1:] += 0.01
    assert problems(replace(records, log_q=off), inputs) == ["log_q is off by 0.01"]


def test_tags_are_joined_by_lengths():
    texts = np.array(["a", "b", "c"], object)
    assert joined(texts, np.array([2, 0, 1])).tolist() == ["a b", "", "c"]
