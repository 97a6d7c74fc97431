"""Charts: every value is drawn where it belongs."""

import re

import pytest

from trainer import charts


def circles(svg):
    return [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_lines_rise_with_their_values_and_stay_inside():
    svg = charts.lines("t", {"a": [0.1, 0.2, 0.4], "b": [0.3, 0.3, 0.3]}, "epoch", mark=2)
    points = circles(svg)
    assert len(points) == 6
    assert all(0 < x < charts.HALF and 0 < y < charts.HEIGHT for x, y in points)
    first = [y for _, y in points[:3]]
    assert first[0] > first[1] > first[2]
    assert first[0] - first[2] == pytest.approx(3 * (first[0] - first[1]), abs=0.3)


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-9, 2e-9], [1e9, 2e9], [-3.0, 4.0]])
def test_any_values_can_be_drawn(values):
    svg = charts.lines("t", {"a": values}, "epoch") + charts.bars("t", ["x"] * len(values), {"a": values}, "x")
    assert "nan" not in svg
    assert len(circles(svg)) == len(values)


def test_bars_are_as_high_as_their_values():
    svg = charts.bars("t", ["1", "2"], {"a": [0.2, 0.4], "b": [0.0, 0.1]}, "x")
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(heights[2] / 2, abs=0.2)
    assert heights[1] == 0


def test_names_are_escaped():
    assert "<b>" not in charts.bars("<b>", ["<b>"], {"<b>": [1.0]}, "<b>")
