"""The loss: softmax cross-entropy over the candidates of a click, corrected for how its negatives were drawn.

The trade this project makes is visible here. Candidates arrive with their log_q, so the loss is TensorFlow's plain
softmax and compiles with XLA, where `tf.nn.sampled_softmax_loss` draws inside the graph from a table of ids.
"""

from typing import Any

import tensorflow as tf

from trainer.config import Correction

MASKED = -1e9  # not -inf: a row that is masked throughout would turn into NaN gradients, silently


def softmax_cross_entropy(
    logits: Any,
    log_q: Any = None,
    mask: Any = None,
    correction: Correction = "negatives",
    weights: Any = None,
) -> Any:
    """The weighted mean of -log softmax(corrected logits)[positive] over the clicks, a scalar.

        s_0 = logits_0 - log_q_0 if correction is "both", else logits_0         (the positive, column 0)
        s_j = logits_j - log_q_j unless correction is "none", else logits_j     (negatives)
        loss = sum_i w_i (logsumexp_j s_ij - s_i0) / sum_i w_i

    "both" is what `tf.nn.sampled_softmax_loss` does with its expected counts. "negatives" leaves the positive as it is:
    it is there with certainty and was not drawn, and correcting it as if it had been is biased (arXiv 2507.09331).
    A masked candidate takes no part. A click whose negatives are all masked has no loss; one whose positive is masked
    too is no click and needs weight 0.

    Args:
      logits: float32 [clicks, 1 + K], the positive in column 0.
      log_q: float32 [clicks, 1 + K], log of each candidate's expected count among the draws; None: no correction.
      mask: bool [clicks, 1 + K], True for a real candidate; None when all are.
      correction: which logits give up their log_q.
      weights: float32 [clicks]; None weighs all clicks alike. Weights that sum to 0 give loss 0.

    Raises:
      ValueError: a correction other than the three, or one that is asked for while log_q is None.
    """
    if correction not in ("none", "negatives", "both"):
        raise ValueError(f"correction: expected none, negatives or both, got {correction!r}")
    if correction != "none":
        if log_q is None:
            raise ValueError(f"correction {correction!r} needs log_q; without it use correction 'none'")
        if correction == "negatives":
            log_q = tf.concat([tf.zeros_like(log_q[:, :1]), log_q[:, 1:]], axis=1)
        logits = logits - log_q
    if mask is not None:
        logits = tf.where(mask, logits, tf.constant(MASKED, logits.dtype))
    labels = tf.one_hot(tf.zeros(tf.shape(logits)[0], tf.int32), tf.shape(logits)[1], dtype=logits.dtype)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    if weights is None:
        return tf.reduce_mean(losses)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights), tf.reduce_sum(weights))
