"""Two kinds of chart as SVG, written by hand: lines over epochs, bars side by side. No script, nothing fetched."""

from collections.abc import Mapping, Sequence
from html import escape

HALF, WHOLE, HEIGHT = 440, 900, 260  # widths in pixels at which the page shows a chart
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40


def lines(title: str, series: Mapping[str, Sequence[float]], x_title: str, mark: int | None = None) -> str:
    """One line a series over 1, 2, 3...; `mark` puts a dashed line at a position (counted from 0)."""
    longest = max((len(values) for values in series.values()), default=0)
    flat = [value for values in series.values() for value in values]
    low, high, ticks = _axis(min(flat, default=0.0), max(flat, default=1.0))
    parts = _frame(low, high, ticks, HALF)

    def x(position: float) -> float:
        return LEFT + (HALF - LEFT - RIGHT) * (position + 0.5) / max(longest, 1)

    every = max(1, longest // 12)
    parts += [_text(x(i), HEIGHT - BOTTOM + 17, str(i + 1)) for i in range(0, longest, every)]
    if mark is not None:
        parts.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for number, (name, values) in enumerate(series.items()):
        points = " ".join(f"{x(i):.1f},{_y(value, low, high):.1f}" for i, value in enumerate(values))
        parts.append(f'<polyline class="s{number}" points="{points}"/>')
        for i, value in enumerate(values):
            label = escape(f"{name}, {x_title} {i + 1}: {value:.4g}")
            parts.append(
                f'<circle class="s{number}" cx="{x(i):.1f}" cy="{_y(value, low, high):.1f}" r="3">'
                f"<title>{label}</title></circle>"
            )
    parts.append(_text((LEFT + HALF - RIGHT) / 2, HEIGHT - 6, x_title))
    return _svg(title, parts, HALF) + _legend(list(series))


def bars(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]], x_title: str) -> str:
    """Groups of bars, one a name, with one bar a series."""
    flat = [value for values in series.values() for value in values]
    low, high, ticks = _axis(0.0, max(flat, default=1.0))
    parts = _frame(low, high, ticks, WHOLE)
    group = (WHOLE - LEFT - RIGHT) / max(len(names), 1)
    width = group * 0.76 / max(len(series), 1)
    for place, name in enumerate(names):
        left = LEFT + group * (place + 0.12)
        for number, (label, values) in enumerate(series.items()):
            top = _y(values[place], low, high)
            hint = escape(f"{label}, {name}: {values[place]:.3f}")
            parts.append(
                f'<rect class="s{number}" x="{left + number * width:.1f}" y="{top:.1f}" '
                f'width="{max(width - 1, 1):.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{hint}</title></rect>'
            )
        parts.append(_text(LEFT + group * (place + 0.5), HEIGHT - BOTTOM + 17, name))
    parts.append(_text((LEFT + WHOLE - RIGHT) / 2, HEIGHT - 6, x_title))
    return _svg(title, parts, WHOLE) + _legend(list(series))


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Bounds on round numbers and the ticks between them."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 4
    power = 10.0 ** _floor_log10(rough)
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = _floor(low / step), -_floor(-high / step)
    last = max(last, first + 1)
    return first * step, last * step, [i * step for i in range(first, last + 1)]


def _floor(value: float) -> int:
    return int(value // 1)


def _floor_log10(value: float) -> int:
    power = 0
    while value >= 10:
        value, power = value / 10, power + 1
    while value < 1:
        value, power = value * 10, power - 1
    return power


def _frame(low: float, high: float, ticks: Sequence[float], width: int) -> list[str]:
    parts = []
    for tick in ticks:
        y = _y(tick, low, high)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{tick:.4g}", "end"))
    return parts


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, parts: Sequence[str], width: int) -> str:
    return f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _legend(names: Sequence[str]) -> str:
    marks = "".join(f'<span><i class="s{number}"></i>{escape(name)}</span>' for number, name in enumerate(names))
    return f'<p class="legend">{marks}</p>'
