"""Charts as inline SVG: sharp at any size, and colored by the page, so that they follow its light or dark theme."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT = 640, 400  # of the drawing, in its own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 42  # margins around the plot
# Of histograms, with room for the legend above them.
LOW_HEIGHT, LEGEND, UNDER = 320, 52, 46
LETTER = 6.8  # width of one, in the page's font
# Distinguishable by people with any color vision (Okabe and Ito 2008).
COLORS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "var(--ink)")


@dataclass(frozen=True)
class Line:
    """A line through (x, y), both [K]; points that are not finite are left out. Without a color it stays in the
    background, unnamed."""

    name: str
    x: np.ndarray
    y: np.ndarray
    color: str | None
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


@dataclass(frozen=True)
class LogAxis:
    label: str
    ticks: Sequence[float]


def color(index: int) -> str:
    """Colors that stay apart and are readable on white and on black."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.618034) % 1, (0.46, 0.58)[index % 2], 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def line_chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Lines over common axes, with a legend of those that have a color."""
    parts = [_frame(x, y)]
    for line in sorted(lines, key=lambda line: line.color is not None):
        points = np.column_stack([_across(line.x, x), _up(line.y, y)])
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            continue
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        style = f'stroke="{line.color}"' if line.color else 'class="quiet"'
        parts.append(f'<path {style} d="{path}"><title>{escape(f"{line.name} {line.note}")}</title></path>')
    legend = "".join(
        f'<li><i style="background:{line.color}"></i><span>{escape(line.name)}</span> <b>{escape(line.note)}</b></li>'
        for line in lines
        if line.color
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


def histogram(
    edges: Sequence[float], groups: Mapping[str, Sequence[int]], axis: LogAxis, marks: Mapping[str, Sequence[float]]
) -> str:
    """Bars over a logarithmic axis, the groups on top of each other.

    edges: [K + 1] of the bins. groups: name -> counts, [K]. marks: series of places, each a row of triangles above.
    """
    logs = np.log(edges)
    low, high = logs[0], logs[-1]

    def x(value: float) -> float:
        place = (np.log(value) - low) / (high - low)
        return LEFT + float(np.clip(place, 0, 1)) * (WIDTH - LEFT - RIGHT)

    stacks = np.array(list(groups.values()))
    step = nice_step(float(stacks.sum(axis=0).max(initial=1)) / 4)
    top = step * max(1, int(np.ceil(stacks.sum(axis=0).max(initial=1) / step)))
    above = LEGEND + 9 * len(marks)
    scale = (LOW_HEIGHT - above - UNDER) / top

    def y(value: float) -> float:
        return LOW_HEIGHT - UNDER - value * scale

    parts = [f'<svg viewBox="0 0 {WIDTH} {LOW_HEIGHT}" role="img" aria-label="{escape(axis.label)}">']
    for value in np.arange(0, top + step / 2, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", "end"))
    for value in axis.ticks:
        parts.append(_text(x(value), LOW_HEIGHT - UNDER + 16, f"{value:g}", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, LOW_HEIGHT - 8, axis.label, "middle"))
    for bin_, (start, end) in enumerate(pairwise(edges)):
        base = 0
        for color, (name, numbers) in zip(COLORS, groups.items(), strict=False):
            if numbers[bin_]:
                left, right = x(start) + 0.5, x(end) - 0.5
                title = f"{start:.3g} to {end:.3g}: {numbers[bin_]} {name}"
                parts.append(
                    f'<rect x="{left:.1f}" width="{right - left:.1f}" y="{y(base + numbers[bin_]):.1f}" '
                    f'height="{numbers[bin_] * scale:.1f}" fill="{color}"><title>{escape(title)}</title></rect>'
                )
            base += numbers[bin_]
    for row, (name, places) in enumerate(marks.items()):
        middle, color = LEGEND + 9 * row, COLORS[(row + len(groups)) % len(COLORS)]
        for place in places:
            points = f"{x(place) - 4:.1f},{middle - 7} {x(place) + 4:.1f},{middle - 7} {x(place):.1f},{middle}"
            title = escape(f"{name}: {place:.3g}")
            parts.append(f'<polygon points="{points}" fill="{color}"><title>{title}</title></polygon>')
    parts.append(_histogram_legend(groups, list(marks)))
    return "".join([*parts, "</svg>"])


def _histogram_legend(groups: Mapping[str, Sequence[int]], marks: list[str]) -> str:
    """Two lines: the bars, and the marks."""
    lines = [
        [(f"{name}: {sum(numbers)}", COLORS[k]) for k, (name, numbers) in enumerate(groups.items())],
        [(name, COLORS[(k + len(groups)) % len(COLORS)]) for k, name in enumerate(marks)],
    ]
    parts = []
    for number, line in enumerate(lines):
        place, y = float(LEFT), 4.0 + 18 * number
        for text, color in line:
            parts.append(f'<rect x="{place:.0f}" y="{y}" width="10" height="10" fill="{color}"/>')
            parts.append(_text(place + 14, y + 9.5, text, "start"))
            place += 28 + LETTER * len(text)
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def nice_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, 20 … from `rough` on."""
    power = 10.0 ** np.floor(np.log10(max(rough, 1)))
    return next(float(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
