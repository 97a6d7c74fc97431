"""One training step: towers, loss, gradient, Adam, compiled as one function, with XLA if the configuration says so."""

from typing import Any

import keras
import tensorflow as tf

from trainer.batches import Batch, Tensor, grown
from trainer.config import Configuration, Optimizer
from trainer.losses import softmax_cross_entropy
from trainer.towers import TwoTowers


class TrainStep:
    """Calling it with a batch updates the model and returns that batch's loss.

    sizes: see `batches.grown`. compiled: whether the last call had a new shape and so took seconds, not milliseconds.
    """

    def __init__(self, model: TwoTowers, config: Configuration, total_steps: int) -> None:
        self.model = model
        self.sizes: dict[str, int] = {}
        self.ran = False
        self.compiled = False
        self.correction = config.loss.correction
        self.optimizer = _adam(config.optimizer, total_steps)
        self.optimizer.build(model.trainable_variables)
        self.run = tf.function(self._step, jit_compile=config.jit, reduce_retracing=True, autograph=False)

    def __call__(self, batch: Batch) -> float:
        before = dict(self.sizes)
        padded = grown(batch, self.sizes)
        self.compiled = not self.ran or self.sizes != before
        self.ran = True
        return float(self.run(padded))

    @property
    def variables(self) -> list[Any]:
        """All that a resumed run needs: weights, dropout's counters, Adam's moments and step count."""
        return [*self.model.variables, *self.optimizer.variables]

    def _step(self, batch: Batch) -> Tensor:
        weights = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.model(batch, training=True)
            loss = softmax_cross_entropy(logits, batch.log_q, batch.mask, self.correction, batch.weight)
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # An embedding's gradient arrives as IndexedSlices, which Adam and clipping would treat row by row.
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        self.optimizer.apply(dense, self.model.trainable_variables)
        return loss


def _adam(config: Optimizer, total_steps: int) -> Any:
    final_share = config.final_share if config.schedule == "cosine" else 1.0
    warmup = min(config.warmup_steps, total_steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=max(total_steps - warmup, 1),
        alpha=final_share,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        beta_2=config.beta_2,
        global_clipnorm=config.clip_norm,
    )
