"""Histograms as inline SVG: stacked bars over a logarithmic axis, with marks for the anchors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 52, 46  # room for the legend and the axes
LETTER = 6.8  # width of one, in the page's font
# Told apart by people with any colour vision (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#000000")


@dataclass(frozen=True)
class Axis:
    title: str
    ticks: Sequence[float]


def bars(
    edges: Sequence[float], groups: Mapping[str, Sequence[int]], axis: Axis, marks: Mapping[str, Sequence[float]]
) -> str:
    """One bar per bin, the groups on top of each other; marks: series of places, each a row of triangles above."""
    logs = np.log(edges)
    low, high = logs[0], logs[-1]

    def x(value: float) -> float:
        place = (np.log(value) - low) / (high - low)
        return LEFT + float(np.clip(place, 0, 1)) * (WIDTH - LEFT - RIGHT)

    stacks = np.array(list(groups.values()))
    step = nice_step(float(stacks.sum(axis=0).max(initial=1)) / 4)
    top = step * max(1, int(np.ceil(stacks.sum(axis=0).max(initial=1) / step)))
    above = TOP + 9 * len(marks)
    scale = (HEIGHT - above - BOTTOM) / top

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value * scale

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axis.title)}">']
    for value in np.arange(0, top + step / 2, step):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", "end"))
    for value in axis.ticks:
        parts.append(_text(x(value), HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, axis.title, "middle"))
    for bin_, (start, end) in enumerate(pairwise(edges)):
        base = 0
        for colour, (name, numbers) in zip(COLOURS, groups.items(), strict=False):
            if numbers[bin_]:
                left, right = x(start) + 0.5, x(end) - 0.5
                title = f"{start:.3g} to {end:.3g}: {numbers[bin_]} {name}"
                parts.append(
                    f'<rect x="{left:.1f}" width="{right - left:.1f}" y="{y(base + numbers[bin_]):.1f}" '
                    f'height="{numbers[bin_] * scale:.1f}" fill="{colour}"><title>{escape(title)}</title></rect>'
                )
            base += numbers[bin_]
    for row, (name, places) in enumerate(marks.items()):
        middle, colour = TOP + 9 * row, COLOURS[(row + len(groups)) % len(COLOURS)]
        for place in places:
            points = f"{x(place) - 4:.1f},{middle - 7} {x(place) + 4:.1f},{middle - 7} {x(place):.1f},{middle}"
            title = escape(f"{name}: {place:.3g}")
            parts.append(f'<polygon points="{points}" fill="{colour}"><title>{title}</title></polygon>')
    parts.append(_legend(groups, list(marks)))
    return "".join([*parts, "</svg>"])


def _legend(groups: Mapping[str, Sequence[int]], marks: list[str]) -> str:
    """Two lines: the bars, and the marks."""
    lines = [
        [(f"{name}: {sum(numbers)}", COLOURS[k]) for k, (name, numbers) in enumerate(groups.items())],
        [(name, COLOURS[(k + len(groups)) % len(COLOURS)]) for k, name in enumerate(marks)],
    ]
    parts = []
    for number, line in enumerate(lines):
        place, y = float(LEFT), 4.0 + 18 * number
        for text, colour in line:
            parts.append(f'<rect x="{place:.0f}" y="{y}" width="10" height="10" fill="{colour}"/>')
            parts.append(_text(place + 14, y + 9.5, text, "start"))
            place += 28 + LETTER * len(text)
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def nice_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, 20 … from `rough` on."""
    power = 10.0 ** np.floor(np.log10(max(rough, 1)))
    return next(float(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
