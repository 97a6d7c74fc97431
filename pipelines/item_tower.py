"""An exported item tower as a Beam ModelHandler: batches of raw values in, vectors out.

The one file of pipelines/ that imports TensorFlow, inside the function that loads the tower in a Beam worker: no Spark
task comes here, and `pyproject.toml` allows it to this file alone. Beam's own TFModelHandlerTensor wants
tensorflow_hub, which is not needed to load a SavedModel.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Batch:
    """Some items. rows: what is written of them. inputs: the tower's, by name, in the same order."""

    rows: pa.Table
    inputs: dict[str, npt.NDArray[Any]]


def handler(folder: str) -> Any:
    """A ModelHandler that makes rows with a column `embedding` of Batches.

    Args:
      folder: of the SavedModel. Items that come out as zeros are unknown to a tower that is a matrix, and left out.
    """
    base = import_module("apache_beam.ml.inference.base")

    class ItemTower(base.ModelHandler):  # type: ignore[misc, name-defined]
        """Loaded once a worker process."""

        def load_model(self) -> Any:
            return _loaded(folder)

        def run_inference(self, batch: Sequence[Batch], model: Any, inference_args: Any = None) -> Iterator[pa.Table]:
            del inference_args
            return (embedded(part, model) for part in batch)

        def batch_elements_kwargs(self) -> dict[str, int]:
            return {"max_batch_size": 1}  # an element is a batch already

        def get_num_bytes(self, batch: Sequence[Batch]) -> int:
            return sum(part.rows.nbytes for part in batch)

    return ItemTower()


def embedded(batch: Batch, model: Any) -> pa.Table:
    """The rows of a batch with what the tower says of each."""
    import tensorflow as tf

    signature = model.signatures["serving_default"]
    types = signature.structured_input_signature[1]
    given = {name: tf.constant(values, types[name].dtype) for name, values in batch.inputs.items()}
    vectors = signature(**given)["embedding"].numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return batch.rows.append_column("embedding", lists).filter(pa.array(np.any(vectors != 0, axis=1)))


def _loaded(folder: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf.saved_model.load(folder)
