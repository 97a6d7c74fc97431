"""The inversion table against what its weights say, and against a search in the cumulative masses: exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import inversion, rng
from samplers.inversion import inversion_table, of_mass
from samplers.mass import ONE

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(lambda weights: max(weights) > 1e-3)


def edges_of(mass):
    """Every position where an item begins or ends, with the item there, by walking along the line."""
    position, found = 0, {}
    for item, length in enumerate(mass.tolist()):
        if length:
            found[position] = found[position + length - 1] = item
        position += length
    return found


@given(WEIGHTS, st.sampled_from([0, 2, 50]))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_an_item_holds_the_positions_from_its_first_to_its_last(weights, steps):
    inversion.STEPS, before = steps, inversion.STEPS  # none: whatever is not at its cell's beginning is searched for
    try:
        table = inversion_table(weights)
        edges = edges_of(table.mass)
        assert table.items(np.array(list(edges))).tolist() == list(edges.values())
    finally:
        inversion.STEPS = before


@given(WEIGHTS)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_masses_are_in_proportion_to_the_weights_and_sum_to_one_exactly(weights):
    table = inversion_table(weights)
    expected = np.asarray(weights) / np.sum(weights)
    np.testing.assert_allclose(table.probabilities, expected, atol=1e-12)
    assert sum(table.mass.tolist()) == table.one == ONE
    assert ((table.mass > 0) == (np.asarray(weights) > 0)).all()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0])
def test_draws_are_what_a_search_in_the_cumulative_masses_finds(exponent):
    weights = np.arange(1, 5_001)[::-1] ** exponent
    weights[100:3_000:7] = 0
    table = inversion_table(weights)
    position = rng.positions(rng.keyed(5, np.arange(300))[:, None], np.arange(400)[None, :])
    assert (table.items(position) == np.searchsorted(np.cumsum(table.mass), position, side="right")).all()


def test_many_items_in_one_cell_are_told_apart():
    mass = np.ones(1_000, np.int64)
    mass[500] = ONE - 999
    table = of_mass(mass)
    assert table.items(np.arange(500)).tolist() == list(range(500))
    assert table.items(np.arange(ONE - 499, ONE)).tolist() == list(range(501, 1_000))


def test_a_rare_item_among_many_keeps_its_probability():
    assert inversion_table(np.concatenate([np.ones(100_000), [1e-9]])).mass[-1] == pytest.approx(1e-14 * ONE, rel=2e-2)


def test_the_first_and_the_largest_random_number_pick_items():
    assert inversion_table(np.r_[0, np.ones(3), 0]).items(np.array([[0, ONE - 1]])).tolist() == [[1, 3]]


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [np.inf]])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        inversion_table(weights)
