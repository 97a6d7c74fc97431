"""The loss against TensorFlow's own sampled softmax and against numpy."""

import numpy as np
import pytest

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, [7, 6]).astype(np.float32)
    log_q = rng.normal(-3, 2, [7, 6]).astype(np.float32)
    mask = rng.random([7, 6]) < 0.7
    mask[:, 0] = True
    weights = rng.random(7).astype(np.float32)
    return logits, log_q, mask, weights


def by_hand(logits, log_q, mask, correction, weights):
    """The formula of the docstring in float64, click by click."""
    losses = []
    for row, q, real in zip(logits.astype(float), log_q.astype(float), mask, strict=True):
        corrected = row - q * {"none": 0, "both": 1, "negatives": np.r_[0, np.ones(len(row) - 1)]}[correction]
        losses.append(np.log(np.exp(corrected[real]).sum()) - corrected[0])
    return (np.array(losses) * weights).sum() / weights.sum()


def test_loss_and_gradients_are_those_of_sampled_softmax():
    import tensorflow as tf

    from trainer.losses import softmax_cross_entropy

    rng = np.random.default_rng(0)
    items, dimension, clicks, negatives = 50, 8, 9, 20
    table = tf.Variable(rng.normal(size=[items, dimension]).astype(np.float32))
    users = tf.Variable(rng.normal(size=[clicks, dimension]).astype(np.float32))
    positive = rng.integers(0, items, clicks)
    sampled = rng.integers(0, items, negatives)  # with repeats, and with accidental hits
    expected = rng.uniform(0.01, 3, items).astype(np.float32)
    with tf.GradientTape() as tape:
        theirs = tf.reduce_mean(
            tf.nn.sampled_softmax_loss(
                weights=table, biases=tf.zeros([items]), labels=positive[:, np.newaxis], inputs=users,
                num_sampled=negatives, num_classes=items, remove_accidental_hits=False,
                sampled_values=(sampled, expected[positive][:, np.newaxis], expected[sampled]),
            )
        )  # fmt: skip
    their_gradients = [tf.convert_to_tensor(g) for g in tape.gradient(theirs, [table, users])]
    candidates = np.concatenate([positive[:, np.newaxis], np.tile(sampled, [clicks, 1])], axis=1)
    with tf.GradientTape() as tape:
        logits = tf.einsum("bd,bkd->bk", users, tf.gather(table, candidates))
        ours = softmax_cross_entropy(logits, np.log(expected[candidates]), correction="both")
    our_gradients = [tf.convert_to_tensor(g) for g in tape.gradient(ours, [table, users])]
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-5)


@pytest.mark.parametrize("correction", ["none", "negatives", "both"])
def test_formula(given, correction):
    from trainer.losses import softmax_cross_entropy

    logits, log_q, mask, weights = given
    found = float(softmax_cross_entropy(logits, log_q, mask, correction, weights))
    assert found == pytest.approx(by_hand(logits, log_q, mask, correction, weights), abs=1e-5)


def test_corrections_differ(given):
    from trainer.losses import softmax_cross_entropy

    logits, log_q, _, _ = given
    found = {c: float(softmax_cross_entropy(logits, log_q, correction=c)) for c in ("none", "negatives", "both")}
    assert len({round(value, 3) for value in found.values()}) == 3


def test_a_row_masked_throughout_has_no_loss_and_finite_gradients(given):
    import tensorflow as tf

    from trainer.losses import softmax_cross_entropy

    logits, log_q, mask, _ = given
    for rows in (mask & (np.arange(6) == 0), np.zeros_like(mask)):
        variable = tf.Variable(logits)
        with tf.GradientTape() as tape:
            loss = softmax_cross_entropy(variable, log_q, rows)
        gradient = tape.gradient(loss, variable).numpy()
        assert np.isfinite(float(loss))
        assert np.isfinite(gradient).all()
    assert float(softmax_cross_entropy(logits, log_q, mask & (np.arange(6) == 0))) == pytest.approx(0, abs=1e-6)


def test_masked_candidates_have_no_gradient(given):
    import tensorflow as tf

    from trainer.losses import softmax_cross_entropy

    logits, log_q, mask, _ = given
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = softmax_cross_entropy(variable, log_q, mask)
    gradient = tape.gradient(loss, variable).numpy()
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask] != 0).all()


def test_padding_clicks_count_for_nothing(given):
    from trainer.losses import softmax_cross_entropy

    logits, log_q, mask, weights = given
    alone = float(softmax_cross_entropy(logits[:4], log_q[:4], mask[:4], weights=weights[:4]))
    padded = weights * (np.arange(7) < 4)
    assert float(softmax_cross_entropy(logits, log_q, mask, weights=padded)) == pytest.approx(alone, abs=1e-6)
    assert float(softmax_cross_entropy(logits, log_q, mask, weights=np.zeros(7, np.float32))) == 0


def test_a_correction_without_log_q_is_refused(given):
    from trainer.losses import softmax_cross_entropy

    with pytest.raises(ValueError, match="needs log_q"):
        softmax_cross_entropy(given[0])
    with pytest.raises(ValueError, match="none, negatives or both"):
        softmax_cross_entropy(given[0], given[1], correction="positive")  # type: ignore[arg-type]
