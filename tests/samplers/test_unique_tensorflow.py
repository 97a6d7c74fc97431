"""TensorFlow's sampling without replacement: its own samplers are the oracle."""

import math

import numpy as np
import pytest

from samplers import rng
from samplers.inversion import inversion_table
from samplers.proposal import CatalogueProposal
from samplers.unique_tensorflow import expected, log_expected, rejection_pools

ITEMS, COUNT, POOLS = 30, 8, 3_000
WEIGHTS = {
    "uniform": np.ones(ITEMS),
    "log_uniform": np.log(np.arange(2, ITEMS + 2) / np.arange(1, ITEMS + 1)),
    "fixed_unigram": np.arange(ITEMS, 0, -1) ** 0.75,
}


def drawn_by(weights, count=COUNT, pools=POOLS):
    proposal = CatalogueProposal(inversion_table(weights))
    return proposal, rejection_pools(proposal, rng.keyed(6, np.arange(pools)), count)


def test_a_pool_holds_the_first_different_ones_of_its_draws():
    proposal, found = drawn_by(WEIGHTS["log_uniform"])
    begin = np.cumsum(found.tries) - found.tries
    for pool in range(300):
        draws = proposal.draw(rng.keyed(6, np.array([pool])), np.arange(1_000))
        seen: list[int] = []
        tries = 0
        while len(seen) < COUNT:
            if int(draws[tries]) not in seen:
                seen.append(int(draws[tries]))
            tries += 1
        assert found.items[pool].tolist() == seen
        assert found.tries[pool] == tries
        assert found.draws[begin[pool] : begin[pool] + tries].tolist() == draws[:tries].tolist()


def test_all_draws_follow_the_proposal(chi_square_p):
    """Wald: refused ones counted, an item is expected q E[tries] times, though the pools themselves do not follow q."""
    weights = WEIGHTS["fixed_unigram"] ** 3
    _, found = drawn_by(weights)
    q = weights / weights.sum()
    total = int(found.tries.sum())
    assert chi_square_p(np.bincount(found.draws, minlength=ITEMS), q * total) > 1e-3
    held = np.bincount(found.items.reshape(-1), minlength=ITEMS)
    assert q[0] - held[0] / held.sum() > 0.01
    np.testing.assert_allclose(held / POOLS, expected(q, COUNT), atol=0.03)
    assert expected(q, COUNT).sum() == pytest.approx(COUNT)


def test_the_estimate_is_a_closed_form():
    q, tries = np.array([0.5, 0.25, 1e-12, 1.0, 0.0]), np.array([3, 4, 5, 4, 4])
    told = np.exp(log_expected(q, tries, 3))
    np.testing.assert_allclose(told, [3 * 0.5, 1 - 0.75**4, 5e-12, 1, 0], rtol=1e-9)


def test_a_pool_depends_on_its_key_alone():
    proposal, found = drawn_by(WEIGHTS["log_uniform"], pools=40)
    keys = rng.keyed(6, np.arange(40))
    for order in ([3], [39, 0, 7]):
        again = rejection_pools(proposal, keys[order], COUNT)
        assert (again.items == found.items[order]).all()
        assert (again.tries == found.tries[order]).all()
    assert rejection_pools(proposal, keys[:0], COUNT).items.shape == (0, COUNT)


def test_pools_that_would_take_for_ever_are_an_error():
    with pytest.raises(ValueError, match=r"^3 different items wanted, 2 come with 300 draws$"):
        expected(np.array([0.5, 0.5 - 1e-9, 1e-9]), 3)
    assert expected(np.full(5, 0.2), 5) == pytest.approx(np.ones(5), rel=0.01)


@pytest.mark.tf
@pytest.mark.parametrize("name", WEIGHTS)
def test_pools_and_expected_counts_are_those_of_tensorflow(name):
    import tensorflow as tf

    every = tf.constant([list(range(ITEMS))], tf.int64)

    @tf.function
    def sampled(seed):
        common = {"num_true": ITEMS, "num_sampled": COUNT, "unique": True, "range_max": ITEMS, "seed": 4}
        if name == "fixed_unigram":
            unigrams = [float(n) for n in range(ITEMS, 0, -1)]
            return tf.random.fixed_unigram_candidate_sampler(every, unigrams=unigrams, distortion=0.75, **common)
        return getattr(tf.random, f"{name}_candidate_sampler")(every, **common)

    q = WEIGHTS[name] / WEIGHTS[name].sum()
    _, ours = drawn_by(WEIGHTS[name])
    held, tries = np.zeros(ITEMS), []
    for seed in range(POOLS):
        items, true, _ = (value.numpy() for value in sampled(tf.constant(seed)))
        held[items] += 1
        # What TensorFlow expects of the first item tells how many draws it took; that of all others follows.
        refused = not math.isclose(true[0, 0], q[0] * COUNT, rel_tol=1e-4)
        took = round(math.log1p(-true[0, 0]) / math.log1p(-q[0])) if refused else COUNT
        tries.append(took)
        np.testing.assert_allclose(np.exp(log_expected(q, np.full(ITEMS, took), COUNT)), true[0], rtol=1e-4)
    assert COUNT in tries
    assert max(tries) > COUNT
    mine = np.bincount(ours.items.reshape(-1), minlength=ITEMS)
    pooled = (held + mine) / (2 * POOLS)
    deviation = np.sqrt(2 * pooled * (1 - pooled) / POOLS)
    assert (np.abs(held - mine) / POOLS < 4.5 * deviation).all()
    spread = math.sqrt((np.var(tries) + np.var(ours.tries)) / POOLS)
    assert abs(np.mean(tries) - np.mean(ours.tries)) < 4.5 * spread
