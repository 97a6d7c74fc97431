"""The quality gate, on figures alone."""

import json
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError, ProjectError
from trainer.gate import Gate

SERVING = Path("root/7")


@pytest.mark.parametrize(
    ("published", "value", "tolerance", "passes"),
    [
        (None, 0.001, 0.0, True),
        (0.5, 0.49, 0.02, True),
        (0.5, 0.4899, 0.02, False),
        (0.05, 0.0489, 0.02, False),  # a share, not two points
        (0.5, 0.5, 0.0, True),
        (0.5, 0.9, 0.0, True),
        (0.0, 0.0, 0.02, True),
    ],
)
def test_a_share_of_the_published_figure_may_be_lost(published, value, tolerance, passes):
    gate = Gate(tolerance=tolerance)
    serving = None if published is None else SERVING
    if passes:
        assert f"{value:.4f}" in gate.check(value, published, serving)
        return
    with pytest.raises(ProjectError, match=f"{value:.4f}, that of version 7 {published:.4f}") as told:
        gate.check(value, published, serving)
    assert told.value.exit_code == 1
    assert "\n" not in str(told.value)


def test_a_baseline_takes_the_place_of_the_published_figure(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"mrr": 0.3, "recall@50": 0.2}}))
    gate = Gate("mrr", 0.1, tmp_path / "metrics.json")
    assert gate.value(tmp_path) == 0.3
    gate.check(0.28, 0.9, SERVING)
    with pytest.raises(ProjectError, match=r"0\.3000"):
        gate.check(0.26, 0.1, SERVING)


@pytest.mark.parametrize("text", ["", "[]", '{"test": {"recall@50": null}}', '{"test": {"recall@50": NaN}}', "{}"])
def test_a_figure_that_is_none_is_told(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"metrics\.json"):
        Gate().value(tmp_path)


def test_figures_that_are_there_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text('{"test": {"mrr": 1, "recall@50": 1}}')
    with pytest.raises(ConfigurationError, match=r"--metric recall@5: .* it has mrr, recall@50"):
        Gate("recall@5").value(tmp_path)
