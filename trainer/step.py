"""One training step: towers, loss, gradient, Adam, compiled as one function, with XLA if the configuration says so."""

from typing import Any

import keras
import tensorflow as tf

from trainer.batches import Batch, Tensor, grown
from trainer.config import Configuration, Optimizer
from trainer.dataset import Catalogue
from trainer.item_table import ItemTable
from trainer.objectives import OBJECTIVES, Moment
from trainer.towers import TwoTowers


class TrainStep:
    """Calling it with a batch updates the model and returns that batch's loss.

    sizes: see `batches.grown`. compiled: whether the last call had a new shape and so took seconds, not milliseconds.
    """

    def __init__(
        self, model: TwoTowers, config: Configuration, total_steps: int, catalogue: Catalogue | None = None
    ) -> None:
        self.model = model
        self.sizes: dict[str, int] = {}
        self.ran = False
        self.compiled = False
        self.config = config
        self.total_steps = total_steps
        self.table = None
        if config.loss.needs_catalogue:
            if catalogue is None:
                raise ValueError(f"loss.kind {config.loss.kind} needs the catalogue; give it to TrainStep")
            self.table = ItemTable(catalogue)
        self.optimizer = _adam(config.optimizer, total_steps)
        self.optimizer.build(model.trainable_variables)
        self.run = tf.function(self._step, jit_compile=config.compiled, reduce_retracing=True, autograph=False)

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
            loss = OBJECTIVES[self.config.loss.kind](self.model, batch, self._moment(), self.table, self.config.loss)
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # An embedding's gradient arrives as IndexedSlices, which Adam and clipping would treat row by row.
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        self.optimizer.apply(dense, self.model.trainable_variables)
        return loss

    def _moment(self) -> Moment:
        # The optimizer's count is in the checkpoint, so that a resumed run draws and anneals as an undisturbed one.
        number = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int32)
        share = tf.cast(number, tf.float32) / max(self.total_steps - 1, 1)
        return Moment(self.config.seed, number, tf.minimum(share, 1.0))


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
