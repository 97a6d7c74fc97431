"""The alias table against what its weights say, computed from the table itself: exact, without drawing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.alias import AliasTable, alias_table

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=60).filter(lambda weights: max(weights) > 1e-3)


def drawn_probabilities(table: AliasTable) -> np.ndarray:
    """What `pick` draws, by summing each column's two parts."""
    columns = len(table.mass)
    drawn = np.zeros(columns)
    np.add.at(drawn, np.arange(columns), table.threshold / columns)
    np.add.at(drawn, table.alias, (1 - table.threshold) / columns)
    return drawn


@given(WEIGHTS)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_table_draws_in_proportion_to_its_weights(weights):
    table = alias_table(weights)
    expected = np.asarray(weights) / np.sum(weights)
    np.testing.assert_allclose(drawn_probabilities(table), expected, atol=1e-12)
    np.testing.assert_allclose(table.probabilities, expected, atol=1e-12)


@given(WEIGHTS)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_mass_is_whole_and_sums_to_one_exactly(weights):
    table = alias_table(weights)
    assert sum(table.mass.tolist()) == table.one
    assert ((table.mass > 0) == (np.asarray(weights) > 0)).all()


def test_a_rare_item_among_many_keeps_its_probability():
    table = alias_table(np.concatenate([np.ones(100_000), [1e-9]]))
    assert drawn_probabilities(table)[-1] == pytest.approx(1e-14, rel=1e-3)


def test_the_largest_uniform_number_picks_an_item():
    table = alias_table(np.ones(3))
    assert table.pick(np.array([1 - 2.0**-53])).tolist() == [2]


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [np.inf]])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        alias_table(weights)
