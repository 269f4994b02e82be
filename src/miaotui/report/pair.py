"""Two models side by side: a sentence, a table, a document."""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from miaotui.measure.comparison import Comparison, QualityOfTwo, Side
from miaotui.measure.speed_result import SpeedResult
from miaotui.measure.statistics import Ratio
from miaotui.report import words

_POINTS = 100
"""One point is 0.01 of a metric."""
_KEYS = ("throughput", "p50", "p99")


def pair_verdict(found: Comparison) -> str:
    """How fast B is beside A, and what it costs."""
    ratio = found.speed.ratios.get("throughput")
    speed = "B was not timed" if ratio is None else f"B is {_times(ratio)} as fast as A"
    if found.quality is None:
        return (
            f"{speed} and answers {found.agreement:.1%} of {found.rows:,} rows alike; without "
            "labels nothing says which answers are right."
        )
    return (
        f"{speed} and {_quality(found.quality)}; {found.agreement:.1%} of {found.rows:,} rows are "
        "answered alike."
    )


def pair_table(found: Comparison) -> Table:
    """A and B, a row each, and how many times better B is."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"A: {found.a.name}, {found.a.runs_on}\nB: {found.b.name}, {found.b.runs_on}\n"
        f"End to end, in turns on {found.cores} cores; latency in ms, one text a call.",
        caption_justify="left",
    )
    table.add_column("")
    titles = ["rows/s", "p50", "p99"]
    if found.quality is not None:
        titles.append(found.quality.metric.replace("_", " "))
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    quality = found.quality
    sides = (
        ("A", found.speed.a, None if quality is None else quality.a),
        ("B", found.speed.b, None if quality is None else quality.b),
    )
    for name, speed, value in sides:
        cells = [name, *_speeds(speed)]
        table.add_row(*map(Text, cells + ([] if value is None else [words.score(value)])))
    table.add_row("B is × better", *(Text(_ratio(found.speed.ratios.get(k))) for k in _KEYS))
    return table


def pair_document(found: Comparison) -> dict[str, Any]:
    """All of it for machines, the verdict included."""
    return {
        "verdict": pair_verdict(found),
        "task": found.task,
        "rows": found.rows,
        "cores": found.cores,
        "agreement": found.agreement,
        "quality": None if found.quality is None else asdict(found.quality),
        "a": _side(found.a, found.speed.a),
        "b": _side(found.b, found.speed.b),
        "times_better_b": {key: asdict(ratio) for key, ratio in found.speed.ratios.items()},
        "notes": list(found.notes),
    }


def _side(side: Side, speed: SpeedResult) -> dict[str, Any]:
    return {
        **asdict(side),
        "throughput_rows_per_s": speed.throughput_rows_per_s,
        "rows_per_s_by_round": speed.rows_per_s.values,
        "p50_ms": speed.p50_ms,
        "p99_ms": _p99(speed),
        "latency_calls": len(speed.latency_ms.values),
    }


def _speeds(speed: SpeedResult) -> list[str]:
    return [
        words.rate(speed.throughput_rows_per_s),
        words.millis(speed.p50_ms),
        words.millis(_p99(speed)),
    ]


def _p99(speed: SpeedResult) -> float | None:
    return speed.p99_ms if speed.has_enough_calls_for_p99 else None


def _ratio(ratio: Ratio | None) -> str:
    return words.ratio(None if ratio is None else (ratio.low, ratio.median, ratio.high))


def _times(ratio: Ratio) -> str:
    """A range is called one."""
    said = f"{ratio.median:.2f}× ({ratio.low:.2f}–{ratio.high:.2f}"
    if not ratio.is_range:
        return f"{said})"
    rounds = "one round" if ratio.rounds == 1 else f"the range of {ratio.rounds} rounds"
    return f"{said}, {rounds})"


def _quality(quality: QualityOfTwo) -> str:
    metric = quality.metric.replace("_", " ")
    low, high = quality.interval_95
    if quality.drop < 0:
        interval = _interval(-high, -low)
        return f"gains {_points(-quality.drop)} points of {metric} (95% interval {interval})"
    interval = _interval(low, high)
    if quality.drop == 0:
        return f"has the same {metric} (95% interval of the loss {interval} points)"
    return f"loses {_points(quality.drop)} points of {metric} (95% interval {interval})"


def _interval(low: float, high: float) -> str:
    return f"{_points(low)} to {_points(high)}"


def _points(value: float) -> str:
    text = f"{_POINTS * value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
