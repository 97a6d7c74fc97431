"""Models on crafted datasets, for tests of what towers do."""

from typing import Any

import numpy as np

VARIANTS: dict[str, dict[str, Any]] = {
    "weighted": {},
    "gru": {"model__user__encoder": "gru", "model__user__heads": None},
    "attention": {"model__user__encoder": "attention", "model__user__hidden": None},
    "matrix": {"model__item__kind": "matrix"},
}


def two_towers(dataset, config):
    from trainer.dataset import record_spec
    from trainer.towers import TwoTowers

    return TwoTowers(record_spec(dataset), config.model, config.seed, dataset.manifest.items.records)


def scattered(model, seed=3):
    """The model with random weights all over, so that nothing is 0 because training starts that way."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.3, variable.shape))
    return model


def held_out_queries(dataset, name="test"):
    from trainer.dataset import read_held_out, record_spec

    return read_held_out(dataset, record_spec(dataset), name).queries[0]
