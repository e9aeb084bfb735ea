"""Line charts as SVG, to stand inside an HTML page."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 12, 44
TICKS = np.linspace(0, 1, 6)


class Line(NamedTuple):
    """One curve over the unit square."""

    name: str
    color: str
    points: np.ndarray  # (n, 2) float64 x, y


def chart(lines: Sequence[Line], across: str, up: str, *, mark: float | None = None) -> Markup:
    """Curves over the unit square with axes, a legend and perhaps a vertical mark at an x."""
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{} over {}">').format(
            WIDTH, HEIGHT, up, across
        )
    ]
    for tick in TICKS:
        x, y = _place(np.array([tick, tick]))
        parts.append(
            Markup(
                '<path class="grid" d="M{x} {top}V{bottom}M{left} {y}H{right}"/>'
                '<text class="tick" x="{x}" y="{low}" text-anchor="middle">{t}</text>'
                '<text class="tick" x="{side}" y="{y}" dy="4" text-anchor="end">{t}</text>'
            ).format(
                x=x, y=y, top=TOP, bottom=HEIGHT - BOTTOM, left=LEFT, right=WIDTH - RIGHT,
                low=HEIGHT - BOTTOM + 16, side=LEFT - 7, t=f"{tick:.1f}",
            )
        )  # fmt: skip
    parts.append(
        Markup(
            '<text x="{}" y="{}" text-anchor="middle">{}</text>'
            '<text transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>'
        ).format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, (TOP + HEIGHT - BOTTOM) / 2, up)
    )
    if mark is not None:
        x, _ = _place(np.array([mark, 0.0]))
        parts.append(Markup('<path class="mark" d="M{} {}V{}"/>').format(x, TOP, HEIGHT - BOTTOM))
    parts += [
        Markup('<path class="line" stroke="{}" d="{}"><title>{}</title></path>').format(
            line.color, _path(line.points), line.name
        )
        for line in lines
    ]
    legend = Markup("").join(
        Markup('<span><i style="background:{}"></i>{}</span>').format(line.color, line.name)
        for line in lines
    )
    return Markup('<figure class="plot">{}</svg><figcaption>{}</figcaption></figure>').format(
        Markup("").join(parts), legend
    )


def sparkline(points: np.ndarray, title: str) -> Markup:
    """A curve (n, 2) over the unit square in the height of a line of text."""
    inside = np.clip(points, 0, 1) * [44, -16] + [1, 17]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
    return Markup(
        f'<svg class="spark" viewBox="0 0 46 18"><title>{escape(title)}</title>'
        f'<path d="M1 1V17H45"/><polyline points="{text}"/></svg>'
    )


def _place(point: np.ndarray) -> tuple[float, float]:
    x = LEFT + point[0] * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - point[1] * (HEIGHT - TOP - BOTTOM)
    return round(float(x), 1), round(float(y), 1)


def _path(points: np.ndarray) -> str:
    placed = (_place(point) for point in np.clip(points, 0, 1))
    return "M" + "L".join(f"{x} {y}" for x, y in placed)
