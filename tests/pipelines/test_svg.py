"""Plots put each value where it belongs, as checked on the parsed SVG."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from pipelines import svg
from pipelines.svg import Axis, Series


def parsed(text):
    return ET.fromstring(text.partition("<p class")[0])


def test_bars_are_as_high_as_their_values():
    plot = parsed(svg.bars(["a", "b", "c"], [Series("s", [1, 2, 0], "one")], "t", "x", "y"))
    one, two, none = (float(bar.get("height")) for bar in plot.iter("rect"))
    assert two == pytest.approx(2 * one, abs=0.2)
    assert none == 0


def test_bars_of_two_series_stand_side_by_side_in_their_slot():
    plot = parsed(svg.bars(["a", "b"], [Series("s", [1, 2], "one"), Series("t", [2, 1], "two")], "t", "x", "y"))
    lefts = [(float(bar.get("x")), float(bar.get("width"))) for bar in plot.iter("rect")]
    for (left, width), (right, _) in itertools.pairwise(lefts):
        assert left + width <= right


def test_curve_points_lie_on_a_line_in_log_log_for_a_power_law():
    x = [1, 10, 100, 1000]
    plot = parsed(svg.curves(x, [Series("s", [v**-0.5 for v in x], "one", "dots")], "t", "x", "y", True, True))
    points = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in plot.iter("circle")]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=0.01)
    assert slopes[0] > 0  # a falling curve goes down the page


def test_values_without_a_place_leave_gaps():
    plot = parsed(
        svg.curves([1, 2, 3, 4], [Series("s", [1.0, 0.0, math.nan, 3.0], "one", "dots")], "t", "x", "y", log_y=True)
    )
    assert len(list(plot.iter("circle"))) == 2


def test_band_spans_its_values_and_stays_in_sight():
    plot = parsed(svg.curves([1, 2], [Series("s", [0.1, -0.1], "one", "dots")], "t", "x", "y", band=(-2, 2)))
    band = next(plot.iter("rect"))
    top, height = float(band.get("y")), float(band.get("height"))
    assert top > svg.TOP
    assert top + height < svg.HEIGHT - svg.BOTTOM
    dots = [float(dot.get("cy")) for dot in plot.iter("circle")]
    assert all(top < dot < top + height for dot in dots)


@pytest.mark.parametrize("values", [[], [0], [5, 5], [1e-12, 1e12]])
def test_degenerate_values_still_make_a_plot(values):
    labels = [str(value) for value in values]
    parsed(svg.bars(labels, [Series("s", values, "one")], "t", "x", "y"))
    parsed(svg.curves(values, [Series("s", values, "one", "line")], "t", "x", "y", log_x=True, log_y=True))


def test_text_is_escaped():
    text = svg.bars(["<b>"], [Series("<i>", [1], "one"), Series("&", [1], "two")], "<u>", "<x>", "<y>")
    for tag in ("<b>", "<i>", "<u>", "<x>", "<y>"):
        assert tag not in text.replace("<i class", "")


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]),
        (Axis(-2.2, 2.2, 0, 100), [-2, -1, 0, 1, 2]),
        (Axis(1, 1e6, 0, 100, log=True), [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
        (Axis(30, 250, 0, 100, log=True), [50, 100, 200]),
    ],
)
def test_ticks_are_round_and_on_the_axis(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_log_axis_has_equal_steps_for_equal_ratios():
    axis = Axis(1, 100, 10, 210, log=True)
    assert [axis.at(v) for v in (1, 10, 100)] == pytest.approx([10, 110, 210])


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (5000, "5000"), (20_000, "20k"), (3e6, "3M"), (0.25, "0.25")]
)
def test_short(value, text):
    assert svg.short(value) == text
