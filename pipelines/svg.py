"""Plots as inline SVG, written by hand: bars and curves. Pure functions of numbers, so a report needs no library.

Colours come from the page by class (`one`, `two`, ...), so that a plot follows the page into the dark. Every mark has a
title, which browsers show on hovering and which screen readers read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 16, 44


@dataclass(frozen=True)
class Series:
    """One value a position; `kind` is line, dots or bars, `css` the class that colours it."""

    name: str
    values: Sequence[float]
    css: str
    kind: str = "bars"


@dataclass(frozen=True)
class Axis:
    """Maps values from low to high onto pixels from begin to end."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; on a log axis values at or below zero lie at the low end."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values on the axis: powers of ten where it is logarithmic and long enough, else 1, 2 and 5 of them."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1,) if last - first > 3 else (1, 2, 5)
            candidates = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            step = _round_step((self.high - self.low) / max(wanted, 1))
            first = math.ceil(self.low / step - 1e-9)
            candidates = [(first + i) * step for i in range(int((self.high - self.low) / step + 1e-9) + 2)]
        slack = 1e-9 * max(abs(self.high), abs(self.low))
        return [tick for tick in candidates if self.low - slack <= tick <= self.high + slack]


def bars(
    labels: Sequence[str],
    series: Sequence[Series],
    title: str,
    x_title: str,
    y_title: str,
    words: Callable[[float], str] = str,
) -> str:
    """Bars side by side for each label, from zero. `words` writes values at the axis and in the marks' titles."""
    highest = max((value for one in series for value in one.values), default=0.0)
    y = Axis(0.0, highest or 1.0, HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    width = min(slot * 0.76 / max(len(series), 1), 46)
    parts = _y_axis(y, y_title, words)
    for position, label in enumerate(labels):
        middle = LEFT + slot * (position + 0.5)
        parts.append(_text(middle, HEIGHT - BOTTOM + 16, label, "middle"))
        for number, one in enumerate(series):
            left = middle + (number - len(series) / 2) * width
            top, value = y.at(one.values[position]), one.values[position]
            parts.append(
                f'<rect class="{one.css}" x="{left + 1:.1f}" y="{top:.1f}" width="{max(width - 2, 1):.1f}" '
                f'height="{max(y.begin - top, 0):.1f}" rx="1.5">{_title(f"{label}, {one.name}: {words(value)}")}</rect>'
            )
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle", "name"))
    return _svg(parts, title) + (legend(series) if len(series) > 1 else "")


def curves(
    x: Sequence[float],
    series: Sequence[Series],
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    words: Callable[[float], str] = str,
    band: tuple[float, float] | None = None,
    height: int = HEIGHT,
) -> str:
    """Lines and dots over x. What is not finite, or not positive on a log axis, leaves a gap; `band` is shaded."""
    shown = [value for one in series for value in one.values if _plottable(value, log_y)]
    low, high = min([*shown, *(band or ())], default=1.0), max([*shown, *(band or ())], default=1.0)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    y_low, y_high = (low / 1.25, high * 1.25) if log_y else (low - margin, high + margin)
    y = Axis(y_low, y_high, height - BOTTOM, TOP, log_y)
    places = [value for value in x if _plottable(value, log_x)]
    x_axis = Axis(min(places, default=1.0), max(places, default=1.0), LEFT + 8, WIDTH - RIGHT - 8, log_x)
    parts = []
    if band is not None:
        top, bottom = y.at(band[1]), y.at(band[0])
        parts.append(
            f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - top:.1f}"/>'
        )
    parts += _y_axis(y, y_title, words)
    for tick in x_axis.ticks():
        parts.append(_text(x_axis.at(tick), height - BOTTOM + 16, short(tick), "middle"))
        parts.append(f'<path class="tick" d="M{x_axis.at(tick):.1f} {height - BOTTOM}v4"/>')
    for one in series:
        points = [
            (x_axis.at(place), y.at(value), place, value)
            for place, value in zip(x, one.values, strict=True)
            if _plottable(place, log_x) and _plottable(value, log_y)
        ]
        if one.kind == "line" and points:
            path = "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up, *_ in points)
            parts.append(f'<path class="{one.css} line" d="{path}">{_title(one.name)}</path>')
        else:
            parts += [
                f'<circle class="{one.css}" cx="{across:.1f}" cy="{up:.1f}" r="3.2">'
                f"{_title(f'{one.name} at {short(place)}: {words(value)}')}</circle>"
                for across, up, place, value in points
            ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, x_title, "middle", "name"))
    return _svg(parts, title, height) + (legend(series) if len(series) > 1 else "")


def legend(series: Sequence[Series]) -> str:
    """Names of the series with their colours, as HTML to stand below a plot."""
    marks = "".join(f'<span><i class="{one.css} {one.kind}"></i>{escape(one.name)}</span>' for one in series)
    return f'<p class="legend">{marks}</p>'


def short(value: float) -> str:
    """A number for an axis: 0.02, 500, 20k, 3M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * (10 if unit == 1e3 else 1):
            return f"{value / unit:g}{name}"
    return f"{value:.10g}"


def _y_axis(y: Axis, title: str, words: Callable[[float], str]) -> list[str]:
    parts = []
    for tick in y.ticks():
        parts.append(f'<path class="grid" d="M{LEFT} {y.at(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, y.at(tick) + 4, words(tick), "end"))
    middle = (y.begin + y.end) / 2
    turned = f'transform="translate(13 {middle:.1f}) rotate(-90)"'
    parts.append(f'<text class="name" text-anchor="middle" {turned}>{escape(title)}</text>')
    return parts


def _svg(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'


def _text(x: float, y: float, text: str, anchor: str, css: str = "label") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _plottable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (not log or value > 0)


def _round_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below a rough step."""
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
