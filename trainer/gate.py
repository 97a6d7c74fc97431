"""Whether a model is good enough to replace the one that serves: one held-out metric against that one's own.

The tolerance is a share of the published figure: with 0.02, .500 may be followed by .490 and .050 by .049. An absolute
one would let a large catalogue, whose recalls are small, lose half of its quality unnoticed. Both figures are each
model's own, on its own day's held-out clicks, so they differ by chance as well: by about sqrt(r (1 - r) / n) for a
recall r over n clicks, which is .016 for r = .5 and 943 clicks. Choose a tolerance that is not below that, or measure
the published model on the new day's clicks first (`trainer evaluate --model ROOT/current --data D --output DIR`) and
give that file as the baseline. The first model is accepted: there is nothing to hold it against.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigurationError, ProjectError
from schemas.model import METRICS


@dataclass(frozen=True)
class Gate:
    """metric: of metrics.json's test figures, larger is better. tolerance: the share that may be lost.
    baseline: a metrics.json to hold the new model against; None takes that of the published model.
    """

    metric: str = "recall@50"
    tolerance: float = 0.02
    baseline: Path | None = None

    def value(self, folder: Path) -> float:
        """The metric of a model's folder."""
        return self._read(folder / METRICS)

    def check(self, value: float, published: float | None, serving: Path | None) -> str:
        """What to say of a model that passes.

        Raises:
          ProjectError: it does not pass; the message has both figures.
        """
        name = "the first model" if serving is None else f"version {serving.name}"
        if self.baseline is not None:
            published, name = self._read(self.baseline), str(self.baseline)
        if published is None:
            return f"{self.metric} {value:.4f}, the first model"
        least = published * (1 - self.tolerance)
        if value < least:
            kept = "nothing is published" if serving is None else "current stays"
            raise ProjectError(
                f"not published: {self.metric} is {value:.4f}, that of {name} {published:.4f}; "
                f"at least {least:.4f} expected (--tolerance {self.tolerance:g}); {kept}"
            )
        return f"{self.metric} {value:.4f}, that of {name} {published:.4f}"

    def _read(self, path: Path) -> float:
        try:
            metrics = dict(json.loads(path.read_text(encoding="utf-8"))["test"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path}: expected the metrics of a trained model ({type(error).__name__}); "
                "write them with python -m trainer train or evaluate"
            ) from error
        value = metrics.get(self.metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(
                f"--metric {self.metric}: {path} has no such test figure; it has {', '.join(sorted(metrics)) or 'none'}"
            )
        return float(value)
