"""Train/serve skew: the exported user tower, fed raw values, against the trainer's towers on the record.

The trainer's side is built anew from the checkpoint and reads held-out records; the served side is asked with values
put together from the world itself. Every held-out click, every encoder.
"""

import numpy as np
import pytest

from tests.trainer.models import VARIANTS, two_towers
from tests.trainer.raw_inputs import embed, raw_items, raw_users

pytestmark = pytest.mark.tf

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def trained_towers(trained_as, crafted, configured):
    """The trainer's own towers of a variant, with the weights of its best epoch."""
    from trainer import checkpoints

    def towers(name):
        model = two_towers(crafted(layout="block"), configured(**VARIANTS[name]))
        path = trained_as(name)[0] / "checkpoints" / "best.npz"
        checkpoints.assign(model.variables, checkpoints.load(path)[0], path)
        return model

    return towers


@pytest.mark.parametrize("name", VARIANTS)
def test_served_users_are_those_of_the_records(trained_towers, loaded, crafted, truth, name):
    from trainer import evaluation
    from trainer.dataset import read_held_out, record_spec

    dataset, model = crafted(layout="block"), trained_towers(name)
    for split in ("validation", "test"):
        clicks = getattr(truth, split)
        held_out = read_held_out(dataset, record_spec(dataset), split)
        assert held_out.positive.tolist() == [click.item for click in clicks]
        expected = evaluation.user_vectors(model, held_out)
        found = embed(loaded(name)["user"], raw_users(truth, clicks, 5))
        assert found.shape == expected.shape
        assert len(found) == len(clicks) > 20
        scale = max(1, np.abs(expected).max())
        assert np.abs(found - expected).max() < TOLERANCE * scale
        # Nothing would be told by vectors that are all alike.
        assert np.abs(found - found[0]).max() > 1000 * TOLERANCE * scale


@pytest.mark.parametrize("name", ["weighted", "matrix"])
def test_served_items_are_those_of_the_records(trained_towers, loaded, crafted, truth, name):
    from trainer import evaluation
    from trainer.dataset import read_catalogue, record_spec

    dataset = crafted(layout="block")
    raw = raw_items(truth, range(len(truth.items)))
    found = embed(loaded(name)["item"], {"item_id": raw["item_id"]} if name == "matrix" else raw)
    expected = evaluation.item_vectors(trained_towers(name), read_catalogue(dataset, record_spec(dataset)))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", VARIANTS)
def test_signatures_have_named_inputs_and_a_batch_dimension(loaded, name):
    import tensorflow as tf

    for side, signature in loaded(name).items():
        inputs = signature.structured_input_signature[1]
        expected = (
            {"user_id", "age", "interests", "mood"} if side == "user" else {"item_id", "genres", "content", "price"}
        )
        if side == "user":
            expected |= {"history_item_id", "history_genres", "history_content", "history_lengths"}
        elif name == "matrix":
            expected = {"item_id"}
        assert inputs.keys() == expected
        for key, spec in inputs.items():
            assert spec.name == key
            assert spec.shape[0] is None
            assert spec.dtype in (tf.string, tf.float32, tf.float64, tf.int64)
        assert signature.structured_outputs.keys() == {"embedding"}
