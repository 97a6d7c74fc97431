"""Random numbers: against SplitMix64's published output, and for keys that look alike."""

import numpy as np

from samplers import rng

# First outputs of SplitMix64 from state 1234567, as listed with the algorithm (Vigna, prng.di.unimi.it).
SPLITMIX64_1234567 = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]


def test_numbers_are_splitmix64():
    drawn = rng.numbers(np.array([1234567], np.uint64), np.arange(4))
    assert drawn.tolist() == SPLITMIX64_1234567


def test_every_part_of_a_key_matters_and_their_order_too():
    parts = [(1, 2, 3), (3, 2, 1), (2, 1, 3), (0, 0, 6), (6, 0, 0), (1, 2), (1, 2, 3, 0), (1, 2, 4)]
    assert len({int(rng.keyed(*part)[0]) for part in parts}) == len(parts)


def test_keys_of_neighbouring_clicks_do_not_collide():
    seeds, clicks = np.arange(20)[:, None], np.arange(5000)[None, :]
    assert len(np.unique(rng.keyed(seeds, clicks))) == seeds.size * clicks.size


def test_uniforms_fill_the_unit_interval_evenly():
    uniform = rng.uniforms(rng.keyed(7, np.arange(2000))[:, None], np.arange(100)[None, :]).ravel()
    counts = np.bincount((uniform * 64).astype(int), minlength=64)
    expected = len(uniform) / 64
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert ((counts - expected) ** 2 / expected).sum() < 120  # 63 degrees: p about 1e-5


def test_slots_of_one_click_and_one_slot_of_all_clicks_are_uncorrelated():
    uniform = rng.uniforms(rng.keyed(3, np.arange(4000))[:, None], np.arange(8)[None, :])
    correlation = np.corrcoef(uniform, rowvar=False) - np.eye(8)
    neighbours = np.corrcoef(uniform[:-1, 0], uniform[1:, 0])[0, 1]
    assert np.abs(correlation).max() < 0.07  # 4.4 standard errors
    assert abs(neighbours) < 0.07
