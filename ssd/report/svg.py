"""Charts as inline SVG: sharp at any size, and coloured by the page, so that they follow its light or dark theme."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 640, 400  # of the drawing, in its own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 42  # margins around the plot


@dataclass(frozen=True)
class Line:
    """A line through (x, y), both [K]; points that are not finite are left out. Without a colour it stays in the
    background, unnamed."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str | None
    note: str = ""


@dataclass(frozen=True)
class Axis:
    label: str
    low: float
    high: float

    @classmethod
    def around(cls, label: str, values: Sequence[np.ndarray], zero: bool) -> "Axis":
        """An axis that holds all finite values, from 0 on if `zero`."""
        joined = np.concatenate([np.asarray(part, float) for part in values]) if len(values) else np.zeros(0)
        joined = joined[np.isfinite(joined)]
        low, high = (float(joined.min()), float(joined.max())) if len(joined) else (0.0, 1.0)
        low = min(0.0, low) if zero else low
        return cls(label, low, high if high > low else low + 1)

    def ticks(self) -> np.ndarray:
        """Round numbers, about five."""
        raw = (self.high - self.low) / 5
        power = 10 ** np.floor(np.log10(raw))
        step = power * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - raw))
        first = np.ceil(self.low / step - 1e-9)
        return np.arange(first, np.floor(self.high / step + 1e-9) + 1) * step + 0.0


def colour(index: int) -> str:
    """Colours that stay apart and are readable on white and on black."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1, (0.46, 0.58)[index % 2], 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def line_chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Lines over common axes, with a legend of those that have a colour."""
    parts = [_frame(x, y)]
    for line in sorted(lines, key=lambda line: line.colour is not None):
        points = np.column_stack([_across(line.x, x), _up(line.y, y)])
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            continue
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        style = f'stroke="{line.colour}"' if line.colour else 'class="quiet"'
        parts.append(f'<path {style} d="{path}"><title>{escape(f"{line.name} {line.note}")}</title></path>')
    legend = "".join(
        f'<li><i style="background:{line.colour}"></i><span>{escape(line.name)}</span> <b>{escape(line.note)}</b></li>'
        for line in lines
        if line.colour
    )
    label = escape(f"{y.label} over {x.label}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f'<div class="chart">{svg}<ul class="legend">{legend}</ul></div>'


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars (name, value >= 0, text beside the bar); the longest spans the width."""
    most = max((value for _, value, _ in rows), default=0) or 1
    lines = [
        f'<div class="bar"><span>{escape(name)}</span>'
        f'<div><i style="width:{100 * max(value, 0) / most:.1f}%"></i></div><b>{escape(text)}</b></div>'
        for name, value, text in rows
    ]
    return f'<div class="bars">{"".join(lines)}</div>'


def _frame(x: Axis, y: Axis) -> str:
    """Grid, numbers and names of the axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in x.ticks():
        at = float(_across(tick, x))
        parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks():
        at = float(_up(tick, y))
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
    parts.append(f'<text x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(
        f'<text transform="translate(14 {middle_y}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _across(value: np.ndarray | float, axis: Axis) -> np.ndarray:
    return LEFT + (np.asarray(value, float) - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT - RIGHT)


def _up(value: np.ndarray | float, axis: Axis) -> np.ndarray:
    bottom = HEIGHT - BOTTOM
    return bottom - (np.asarray(value, float) - axis.low) / (axis.high - axis.low) * (bottom - TOP)
