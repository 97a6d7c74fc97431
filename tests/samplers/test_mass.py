"""Masses are the same however the catalogue is cut into parts."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import mass, mixture
from samplers.mass import ONE, Part, Whole, exact_sum, floored
from samplers.proposal import proposal, weighed

MIXTURE: list = [
    ("popularity", 0.5, {"exponent": 0.75}), ("uniform", 0.2, {}), ("log_uniform", 0.3, {}),
]  # fmt: skip


@given(st.lists(st.floats(-1e300, 1e300), max_size=50))
@settings(deadline=None, derandomize=True)
def test_sums_are_exact(values):
    assert exact_sum(np.array(values, np.float64)) == sum(map(Fraction, values), Fraction(0))


def test_sums_of_many_numbers_are_exact():
    values = np.random.default_rng(1).pareto(1.0, 300_000)
    assert float(exact_sum(values)) == math.fsum(values)


@pytest.mark.parametrize("cuts", [[], [1], [400], [3, 3, 77, 499]])
@pytest.mark.parametrize("components", [MIXTURE, MIXTURE[:1], MIXTURE[1:2], MIXTURE[2:]])
def test_masses_do_not_depend_on_how_items_are_parted(cuts, components):
    counts = np.sort(np.random.default_rng(2).zipf(1.3, 500).clip(max=10**6))[::-1].copy()
    counts[350:] = 0
    expected = proposal(components, counts)

    edges = [0, *cuts, len(counts)]
    pieces = [weighed(components, counts[begin:end], first=begin) for begin, end in itertools.pairwise(edges)]
    sums = mass.added([exact_sum(weights) for _, weights in piece] for piece in pieces)
    masses = [floored(mixture.weights(piece, sums)) for piece in pieces]
    whole = Whole(tuple(Part.of(piece) for piece in masses))
    parts = [whole.completed(piece, number) for number, piece in enumerate(masses)]
    assert np.concatenate(parts).tolist() == expected.mass.tolist()
    assert whole.begins() == [0, *np.cumsum([part.sum() for part in parts]).tolist()]
    assert whole.begins()[-1] == ONE


def test_what_rounding_leaves_goes_to_the_first_that_can_be_drawn_one_each():
    parts = [np.array([0, 5, ONE - 20]), np.array([7, 0, 3])]
    whole = Whole(tuple(map(Part.of, parts)))  # 5 are missing, 4 items can be drawn
    assert [whole.completed(part, number).tolist() for number, part in enumerate(parts)] == [
        [0, 6, ONE - 20 + 1 + 1],
        [8, 0, 4],
    ]


def test_what_was_rounded_up_is_taken_from_the_heaviest():
    found = mass.whole(np.array([1.0, 1e-30, 1e-30]))
    assert found.tolist() == [ONE - 2, 1, 1]


def test_uniform_masses_differ_by_one_at_most():
    found = mass.whole(mass.shares(np.ones(3_000_001)))
    assert found.max() - found.min() <= 1
    assert found.sum() == ONE
