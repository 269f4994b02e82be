"""How time grows: with tokens per row, rows per batch, layers, width and cores.

    python benchmarks/curves.py [--rounds 10] [--seconds 0.15]

Random weights in the shapes of a BERT with heads of 32 and an inner width of four times the hidden
one; `native` in int8-dynamic, and OpenVINO in int8-static with buckets of fixed lengths. Everything
else stands as in MiniLM-L6: 6 layers, hidden 384, 64 rows of 27 tokens, all cores. Points are
visited in a new order each round. Beside the times: the operations of all products, what share of
the processor's int8 ceiling that is (ceiling.cpp, registers only), and for the curves that should
be straight the line through them and how far off it the furthest point is.
Result: results/curves.json, results/curves.svg.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from native import ceiling, round_of
from packaged import RESULTS, conditions, encoder_folder, write_result
from tokenizers import Tokenizer

from miaotui.engines.base import EngineBase, RowRunner
from miaotui.engines.layouts import Bucketed
from miaotui.engines.native import NativeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.hardware import probe
from miaotui.models.encoder import Encoder
from miaotui.models.model import Calibration, Model
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape
from miaotui.quiet import silence_telemetry
from miaotui.report import svg
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.tasks.text_classification import TextClassification
from miaotui.techniques import Int8Dynamic, Int8Static

VOCABULARY = 30522
HEAD_DIM = 32
BATCH_TOKENS = 2048
STYLE = (
    "text{font:13px sans-serif;fill:#333}.tick{font-size:11px;fill:#666}.grid{stroke:#e4e4e4}"
    ".axis{stroke:#888}.native{stroke:#2f6f4f;fill:none;stroke-width:2.5}"
    ".openvino{stroke:#9aa5b1;fill:none;stroke-width:2.5}"
)


@dataclass(frozen=True)
class Point:
    """What is run: so many rows of so many tokens through so large an encoder on so many cores."""

    rows: int = 64
    tokens: int = 27
    layers: int = 6
    hidden: int = 384
    cores: int = 0

    @property
    def operations(self) -> float:
        """Of all products: the last layer goes on with the first token of each row alone."""
        every, first, h = self.rows * self.tokens, self.rows, self.hidden
        inner = 2 * (2 * h * h + 8 * h * h)  # query and output, up and down
        keys = 2 * 2 * h * h
        attention = 4 * self.tokens * h
        whole = every * (inner + keys + attention)
        last = every * keys + first * (inner + attention)
        return float((self.layers - 1) * whole + last)


@dataclass(frozen=True)
class Curve:
    """Points along one of their fields; `straight` where time should grow in proportion."""

    field: str
    name: str
    values: tuple[int, ...]
    straight: bool


CURVES = (
    Curve("tokens", "tokens per row", (16, 32, 64, 128, 256, 512), False),
    Curve("rows", "rows per batch", (1, 2, 4, 8, 16, 32, 64, 128, 256), True),
    Curve("layers", "layers", (2, 4, 6, 8, 10, 12), True),
    Curve("hidden", "hidden size", (128, 256, 384, 512, 768), False),
    Curve("cores", "cores", (1, 2), False),
)
ENGINES: dict[str, tuple[EngineBase, Any]] = {
    "native": (NativeEngine(), Int8Dynamic()),
    "openvino": (
        OpenVinoEngine(layout=Bucketed(batch=16, edges=(16, 32, 64, 128, 256, 512))),
        Int8Static(),
    ),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=0.15)
    given = options.parse_args()
    silence_telemetry()
    cores = probe().cores
    curves = [c for c in CURVES if c.field != "cores" or cores > 1]
    points = {(c.field, value): point_of(c, value, cores) for c in curves for value in c.values}
    results: dict[str, Any] = {"conditions": conditions(), "ceiling": ceiling()}
    with tempfile.TemporaryDirectory() as folder:
        times = measured(points, Path(folder), given.rounds, given.seconds)
    results["curves"] = {c.field: told(c, points, times, results["ceiling"]) for c in curves}
    write_result("curves", results)
    (RESULTS / "curves.svg").write_text(picture(curves, results["curves"]), encoding="utf-8")
    print("\n".join(table(results["curves"])))


def point_of(curve: Curve, value: int, cores: int) -> Point:
    if curve.field == "tokens":
        return Point(rows=max(1, BATCH_TOKENS // value), tokens=value, cores=cores)
    return replace(Point(cores=cores), **{curve.field: value})


def measured(
    points: dict[tuple[str, int], Point], folder: Path, rounds: int, seconds: float
) -> dict[tuple[str, int], dict[str, list[float]]]:
    """Of each point and engine the median milliseconds of every round."""
    sessions: dict[tuple[str, int, int, int], RowRunner] = {}
    texts = {point: rows_of(point) for point in set(points.values())}
    for point in texts:
        for name in ENGINES:
            key = (name, point.layers, point.hidden, point.cores)
            if key not in sessions:
                sys.stderr.write(f"building {name}, {point.layers} layers of {point.hidden}\n")
                sessions[key] = opened(*key, folder / "-".join(map(str, key)))
    times: dict[tuple[str, int], dict[str, list[float]]] = {
        place: {name: [] for name in ENGINES} for place in points
    }
    order, began = np.random.default_rng(0), time.perf_counter()
    work = [(place, name) for place in points for name in ENGINES]
    for number in range(rounds + 1):
        for at in order.permutation(len(work)):
            place, name = work[at]
            point = points[place]
            session = sessions[name, point.layers, point.hidden, point.cores]
            took = round_of(session.run, texts[point], seconds if number else 0.0)
            if number:  # the first calls compile and warm up
                times[place][name].append(float(np.median(took)) * 1e3)
        left = (time.perf_counter() - began) / (number + 1) * (rounds - number)
        sys.stderr.write(f"round {number} of {rounds}, about {left:.0f} s left\n")
    return times


def rows_of(point: Point) -> EncodedRows:
    draw = np.random.default_rng(0)
    return encoded_rows(draw.integers(1000, VOCABULARY, (point.rows, point.tokens)).tolist())


def opened(name: str, layers: int, hidden: int, cores: int, folder: Path) -> RowRunner:
    """A random encoder of that size, lowered."""
    engine, technique = ENGINES[name]
    torch.manual_seed(0)
    shape = EncoderShape(
        family="bert",
        vocab=VOCABULARY,
        embedding=hidden,
        hidden=hidden,
        head_dim=HEAD_DIM,
        positions=512,
        position_offset=0,
        types=2,
        layers=(LayerShape(hidden // HEAD_DIM, 4 * hidden),) * layers,
        activation=Activation.GELU,
        norm_eps=1e-12,
        head_kind=HeadKind.TANH,
        labels=2,
    )
    tokenizer = Tokenizer.from_file(str(encoder_folder() / "tokenizer.json"))
    task = TextClassification.of(tokenizer, ["no", "yes"], Problem.SINGLE_LABEL, 512)
    rows = rows_of(Point())
    calibration = Calibration(rows, one_a_row(np.zeros(len(rows), dtype=np.int64)))
    model = technique.prepare(Model(Encoder(shape).eval(), task, "bert"), calibration)
    engine.build(model, calibration, folder)
    return engine.open(folder, cores)


def told(
    curve: Curve,
    points: dict[tuple[str, int], Point],
    times: dict[tuple[str, int], dict[str, list[float]]],
    most: dict[str, float] | None,
) -> dict[str, Any]:
    peak = max((v for k, v in (most or {}).items() if k.startswith("int8")), default=None)
    results: dict[str, Any] = {"name": curve.name, "points": []}
    for value in curve.values:
        point = points[curve.field, value]
        engines = {}
        for name, own in times[curve.field, value].items():
            ms = float(np.median(own))
            gops = point.operations / ms / 1e6
            engines[name] = {
                "rounds_ms": own,
                "ms": ms,
                "us_per_token": ms * 1e3 / point.rows / point.tokens,
                "gops": gops,
                "ceiling_share": gops / (peak * point.cores) if peak else None,
            }
        facts = {"rows": point.rows, "tokens": point.tokens, "operations": point.operations}
        results["points"].append({curve.field: value} | facts | {"engines": engines})
    if curve.straight:
        results["lines"] = {name: straight(curve, results["points"], name) for name in ENGINES}
    return results


def straight(curve: Curve, points: list[dict[str, Any]], name: str) -> dict[str, float]:
    """The line through the times that misses each by the least share of it."""
    x = np.array([point[curve.field] for point in points], dtype=float)
    y = np.array([point["engines"][name]["ms"] for point in points])
    weights = 1 / y
    matrix = np.stack([np.ones_like(x), x], axis=1) * weights[:, None]
    (start, slope), *_ = np.linalg.lstsq(matrix, y * weights, rcond=None)
    misses = (start + slope * x) / y - 1
    return {
        "start_ms": float(start),
        "ms_each": float(slope),
        "largest_miss": float(np.abs(misses).max()),
    }


def table(curves: dict[str, Any]) -> list[str]:
    lines = []
    for field, curve in curves.items():
        lines.append(f"{curve['name']}: ms, microseconds a token, share of the int8 ceiling")
        for point in curve["points"]:
            shown = []
            for name, own in point["engines"].items():
                share = own["ceiling_share"]
                told_share = "" if share is None else f" {share:4.0%}"
                shown.append(f"{name} {own['ms']:8.2f} {own['us_per_token']:7.2f}{told_share}")
            lines.append(f"  {point[field]:4d}  " + "   ".join(shown))
        for name, own in curve.get("lines", {}).items():
            lines.append(
                f"  {name}: {own['start_ms']:.2f} ms + {own['ms_each']:.3f} ms each, "
                f"no point further off than {own['largest_miss']:.0%}"
            )
    return lines


def picture(curves: list[Curve], results: dict[str, Any]) -> str:
    """A panel for each curve: microseconds a token over tokens per row, else milliseconds."""
    width, height, parts = 380, 250, []
    for number, curve in enumerate(curves):
        left, top = 20 + number % 2 * width, 20 + number // 2 * height
        metric = "us_per_token" if curve.field == "tokens" else "ms"
        points = results[curve.field]["points"]
        values = [own[metric] for point in points for own in point["engines"].values()]
        x = svg.Scale(0, max(curve.values), left + 44, left + width - 78)
        y = svg.Scale(0, max(values), top + height - 60, top + 24)
        unit = "µs a token" if metric == "us_per_token" else "ms"
        axes = str(svg.axes(x, y, curve.name, unit)).replace('x="2"', f'x="{left}"')
        parts.append(Markup(axes))
        for name in ENGINES:
            line = [(x(p[curve.field]), y(p["engines"][name][metric])) for p in points]
            parts.append(svg.path(line, name))
            parts.append(svg.text(line[-1][0] + 4, line[-1][1] + 4, name))
    rows = -(-len(curves) // 2)
    drawn = svg.drawing(2 * width + 40, rows * height + 30, "How time grows", *parts)
    style = Markup("<style>{}</style><rect width='100%' height='100%' fill='white'/>")
    opening = '<svg xmlns="http://www.w3.org/2000/svg" '
    text = str(drawn).replace("<svg ", opening, 1)
    head, _, rest = text.partition(">")
    return f"{head}>{style.format(Markup(STYLE))}{rest}\n"


if __name__ == "__main__":
    main()
