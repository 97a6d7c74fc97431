"""Goodness of fit: the p-value against TensorFlow's incomplete gamma function, and what chance cannot explain."""

import numpy as np
import pytest

from samplers.goodness import compare, upper_gamma


@pytest.mark.tf
def test_p_values_are_tensorflows():
    import tensorflow as tf

    a = np.repeat([0.5, 1.0, 4.5, 50.0, 800.0, 2500.0], 7)
    x = (a.reshape(6, 7) * np.array([0.01, 0.5, 0.9, 1.0, 1.05, 1.3, 3.0])).ravel()
    expected = tf.math.igammac(tf.constant(a, tf.float64), tf.constant(x, tf.float64)).numpy()
    np.testing.assert_allclose([upper_gamma(*pair) for pair in zip(a, x, strict=True)], expected, rtol=1e-8, atol=1e-14)


def test_a_draw_that_was_impossible_has_p_value_zero():
    assert compare([5, 5, 1], [5, 5, 0]).p_value == 0


def test_counts_as_expected_have_no_divergence():
    result = compare([10, 20, 30], [10, 20, 30])
    assert (result.chi_square, result.kl, result.degrees, result.draws) == (0, 0, 2, 60)


def test_rare_cells_are_merged_so_that_the_statistic_is_a_chi_square():
    expected = np.full(10_000, 0.01)
    observed = np.random.default_rng(2).multinomial(100, expected / expected.sum())
    result = compare(observed, expected)
    assert result.degrees < 25
    assert result.p_value > 1e-3


def test_no_draws_are_no_evidence():
    assert compare([0, 0], [1, 1]).p_value == 1
