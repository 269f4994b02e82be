"""Pieces of a chart: scales, ticks, marks. Everything given as text is escaped."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from miaotui.report import words

MARKS = {
    "original": "M0-5L5 0L0 5L-5 0Z",
    "free": "M-4.4-4.4H4.4V4.4H-4.4Z",
    "compressed": "M0-5.4L5.2 4H-5.2Z",
    "recovered": "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z",
    "cascade": "M-5-3H5L0 1Z M-5 1H5L0 5Z",
    "rival": "M-4-5.4L0-1.4L4-5.4L5.4-4L1.4 0L5.4 4L4 5.4L0 1.4L-4 5.4L-5.4 4L-1.4 0L-5.4-4Z",
}
"""A shape for each kind of point, so that colour is not needed to tell them apart."""


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end`, and no further."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the scale."""
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * number, 10) for number in range(first, last + 1)]


def wide_scale(low: float, high: float, start: float, end: float) -> Scale:
    """As Scale, where equal ends are moved apart."""
    return Scale(low, high if high > low else low + 1.0, start, end)


def _round_step(step: float) -> float:
    power = float(10 ** math.floor(math.log10(step)))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step * 0.999)


def tick_text(value: float) -> str:
    return f"{value:,.10g}".replace("-", "−")


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, kind, anchor, content
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, kind)


def bar(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="3" class="{}"/>').format(
        x, y, round(max(0.0, width), 1), height, kind
    )


def path(points: list[tuple[float, float]], kind: str) -> Markup:
    data = "M" + "L".join(f"{x} {y}" for x, y in points)
    return Markup('<path d="{}" class="{}"/>').format(data, kind)


def mark(x: float, y: float, kind: str, hover: str) -> Markup:
    """A point that shows `hover` under the mouse and to a screen reader."""
    return Markup(
        '<g transform="translate({} {})" class="mark {}"><title>{}</title>'
        '<circle r="11" class="reach"/><path d="{}"/></g>'
    ).format(x, y, kind, hover, MARKS[kind])


def hovering(hover: str, *parts: Markup) -> Markup:
    return Markup("<g><title>{}</title>{}</g>").format(hover, Markup("").join(parts))


def drawing(width: int, height: int, name: str, *parts: Markup) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, name, Markup("").join(parts)
    )


def axes(x: Scale, y: Scale, x_name: str, y_name: str) -> Markup:
    """Horizontal grid lines, ticks on both axes and their names."""
    left, right = x.start, x.end
    bottom, top = max(y.start, y.end), min(y.start, y.end)
    parts = [line(left, y(tick), right, y(tick), "grid") for tick in y.ticks()]
    parts += [text(left - 6, y(tick) + 4, tick_text(tick), "tick", "end") for tick in y.ticks()]
    parts += [text(x(tick), bottom + 16, tick_text(tick), "tick", "middle") for tick in x.ticks()]
    parts += [
        line(left, bottom, right, bottom, "axis"),
        text(right, bottom + 33, x_name, "name", "end"),
        text(2, top - 10, y_name, "name"),
    ]
    return Markup("").join(parts)


def signed(value: float) -> str:
    """A drop with its sign, for the end of a bar."""
    return ("+" if value > 0 else "") + words.score(value)
