"""Scalars for TensorBoard in logs/: the loss and the validation metrics after each epoch."""

import shutil
from pathlib import Path
from types import TracebackType

import tensorflow as tf


class Scalars:
    """Writes event files into a folder; `fresh` clears what another run left there."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        self.writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """One point a value: the loss under `train/`, the rest under `validation/`."""
        with self.writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(f"train/{name}" if name in ("loss", "seconds") else f"validation/{name}", value)
        self.writer.flush()
