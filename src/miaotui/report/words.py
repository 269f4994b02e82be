"""Numbers as people read them; what was not measured is a dash."""

from collections.abc import Mapping, Sequence
from typing import Any

from miaotui.measure.result import RatioTriple

MISSING = "–"
_MINUS = "−"


def rate(rows_per_s: float | None) -> str:
    """1,650 or, where slow, 16.5."""
    if rows_per_s is None:
        return MISSING
    return f"{rows_per_s:,.0f}" if rows_per_s >= 100 else f"{rows_per_s:.1f}"


def millis(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def score(value: float | None) -> str:
    """A metric or a drop, in the metric's own units, with a true minus sign."""
    if value is None:
        return MISSING
    text = f"{value:.4f}"
    return "0.0000" if text == "-0.0000" else text.replace("-", _MINUS)


def interval(bounds: tuple[float, float]) -> str:
    return f"{score(bounds[0])} to {score(bounds[1])}"


def ratio(triple: RatioTriple | None) -> str:
    """Median and, in brackets, low to high."""
    if triple is None:
        return MISSING
    low, median, high = triple
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def times(triple: RatioTriple) -> str:
    """As `ratio`, inside a sentence."""
    low, median, high = triple
    return f"{median:.2f}× ({low:.2f}–{high:.2f})"


def size(num_bytes: float | None) -> str:
    if num_bytes is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def yes_no(value: bool | None) -> str:
    return MISSING if value is None else "yes" if value else "no"


def plain(name: str, value: Any) -> str:
    """Any value of an environment as words; numbers of bytes by the name's ending."""
    if value is None or (isinstance(value, Sequence | Mapping) and not value):
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if name.endswith("_bytes") and isinstance(value, int | float):
        return size(value)
    return str(value)
