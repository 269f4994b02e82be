"""Charts as inline SVG, 420 units wide; None where there is nothing to draw."""

from collections.abc import Sequence

import yaml
from markupsafe import Markup

from miaotui.measure.result import OptimizationResult, TriedConfiguration
from miaotui.measure.statistics import percentile
from miaotui.report import svg, words

WIDTH = 420
_LEFT, _RIGHT = 48, 408
_BUDGETS_SHOWN = 4
"""Points that lose more than this many times the limit stand at the edge."""
_ECDF_POINTS = 160


def trade_off_chart(result: OptimizationResult) -> Markup | None:
    """Drop to the right, speed (or size) upwards; the recipe of a point on hover."""
    objective = result.speed.objective
    points = [
        (point, point.drop_selection, value)
        for point in result.details.configurations
        if point.drop_selection is not None
        and (value := _objective_value(point, objective)) is not None
    ]
    if not points:
        return None
    x = _drop_scale([drop for _, drop, _ in points], result.details.max_drop)
    y = _objective_scale([value for *_, value in points], objective)
    drawn = sorted(points, key=lambda point: point[0].chosen)
    marks = [_configuration_mark(point, x(drop), y(value)) for point, drop, value in drawn]
    return svg.drawing(
        WIDTH,
        320,
        "Quality and speed of every configuration tried",
        svg.axes(x, y, "drop on the selection rows →", _OBJECTIVE_NAMES[objective]),
        _budget_line(x, result.details.max_drop),
        *marks,
    )


_OBJECTIVE_NAMES = {
    "throughput": "rows/s, upwards is faster",
    "latency": "p99 ms, upwards is faster",
    "size": "MB to serve, upwards is smaller",
}


def beyond_the_edge(result: OptimizationResult) -> int:
    """How many points lose more than the trade-off chart shows."""
    limit, drops = result.details.max_drop, _drops(result)
    if limit is None or not drops:
        return 0
    edge = _drop_scale(drops, limit).high
    return sum(drop > edge for drop in drops)


def speedup_chart(result: OptimizationResult) -> Markup | None:
    """One bar a step: the throughput, what it gained on the step before, and the drop so far."""
    steps = [
        step for step in result.details.speedup_steps if step.throughput_rows_per_s is not None
    ]
    if not steps:
        return None
    speeds = [step.throughput_rows_per_s or 0.0 for step in steps]
    scale = svg.wide_scale(0.0, max(speeds), 0.0, 300.0)
    parts, row_height = [], 46
    for number, (step, speed) in enumerate(zip(steps, speeds, strict=True)):
        top = number * row_height
        before = speeds[number - 1] if number else speed
        gain = f"×{speed / before:.2f}" if number and before else ""
        cost = f"drop {words.score(step.drop_selection)}"
        parts += [
            svg.text(0, top + 14, step.step, "label"),
            svg.text(WIDTH - 2, top + 14, cost, "tick", "end"),
            svg.bar(0, top + 21, scale(speed), 14, "ours" if step is steps[-1] else "other"),
            svg.text(scale(speed) + 7, top + 32, f"{words.rate(speed)}  {gain}", "value"),
        ]
    return svg.drawing(WIDTH, len(steps) * row_height, "Throughput after each step", *parts)


def layers_chart(result: OptimizationResult) -> Markup | None:
    """Two bars a layer: heads and ffn neurons kept, on a track of what was there."""
    if not result.details.layers:
        return None
    parts, row_height, head = [], 27, 20
    for name, x in (("heads kept", 34), ("ffn neurons kept", 186)):
        parts.append(svg.text(x, 12, name, "name"))
    for number, layer in enumerate(result.details.layers):
        top = head + number * row_height
        hover = (
            f"layer {number}: {layer.heads_kept} of {layer.heads_before} heads, "
            f"{layer.ffn_kept:,} of {layer.ffn_before:,} ffn neurons"
        )
        heads = _kept(34, 92, top, layer.heads_kept, layer.heads_before)
        ffn = _kept(186, 136, top, layer.ffn_kept, layer.ffn_before)
        name = svg.text(0, top + 14, str(number), "label")
        parts.append(svg.hovering(hover, name, *heads, *ffn))
    height = head + len(result.details.layers) * row_height
    return svg.drawing(WIDTH, height, "Heads and neurons kept in each layer", *parts)


def sensitivity_chart(result: OptimizationResult) -> Markup | None:
    """One bar a layer from a common zero; layers that gain point to the left."""
    layers = result.details.sensitivity
    if not layers:
        return None
    drops = [layer.drop for layer in layers]
    names = [_layer_name(layer.layer) for layer in layers]
    left = 8 + min(150.0, max(map(len, names)) * 7.2)
    scale = svg.wide_scale(min(0.0, *drops), max(0.0, *drops), left, WIDTH - 62)
    parts, row_height = [], 27
    for number, (name, drop) in enumerate(zip(names, drops, strict=True)):
        top, start, end = number * row_height, *sorted((scale(0), scale(drop)))
        shown = name if len(name) <= 21 else "…" + name[-20:]
        parts.append(
            svg.hovering(
                f"{name}: {svg.signed(drop)}",
                svg.text(0, top + 17, shown, "label"),
                svg.bar(start, top + 6, max(end - start, 1.5), 14, "cost" if drop > 0 else "ours"),
                svg.text(end + 6, top + 17, svg.signed(drop), "value"),
            )
        )
    height = len(layers) * row_height
    zero = svg.line(scale(0), 0, scale(0), height, "axis")
    return svg.drawing(WIDTH, height, "Drop where only this layer is compressed", *parts, zero)


def latency_chart(result: OptimizationResult) -> Markup | None:
    """Share of calls answered within a time, ours and the baseline; the axis ends past the p99."""
    samples = result.details.latency_ms
    series = [
        (name, v) for name, v in (("ours", samples.optimized), ("base", samples.baseline)) if v
    ]
    if not series:
        return None
    ends = [percentile(values, 99.5) for _, values in series]
    x = svg.wide_scale(0.0, max(ends) * 1.05, _LEFT, _RIGHT)
    y = svg.Scale(0.0, 100.0, 250, 26)
    curves = [svg.path(_ecdf(values, x, y), f"curve {name}") for name, values in series]
    p99s = [_p99_mark(name, percentile(values, 99), x, y) for name, values in series]
    return svg.drawing(
        WIDTH,
        290,
        "Distribution of the latency of one call",
        svg.axes(x, y, "ms for one call →", "% of calls answered within"),
        *curves,
        *p99s,
    )


def _layer_name(layer: int | str) -> str:
    return f"layer {layer}" if isinstance(layer, int) else layer


def _drops(result: OptimizationResult) -> list[float]:
    tried = result.details.configurations
    return [point.drop_selection for point in tried if point.drop_selection is not None]


def _drop_scale(drops: Sequence[float], limit: float | None) -> svg.Scale:
    low, high = min(0.0, *drops, 0.0), max(drops)
    if limit:
        high = max(min(high, limit * _BUDGETS_SHOWN), limit * 1.5)
    margin = (high - low) * 0.05 or 0.001
    return svg.Scale(low - margin, high + margin, _LEFT, _RIGHT)


def _objective_value(point: TriedConfiguration, objective: str) -> float | None:
    if objective == "latency":
        return point.p99_ms
    if objective == "size":
        return None if point.size_bytes is None else point.size_bytes / 1e6
    return point.throughput_rows_per_s


def _objective_scale(values: Sequence[float], objective: str) -> svg.Scale:
    """Better is always upwards: pixels fall with the value where less of it is better."""
    top, bottom = 26, 270
    start, end = (bottom, top) if objective == "throughput" else (top, bottom)
    return svg.wide_scale(0.0, max(values) * 1.06, start, end)


def _budget_line(x: svg.Scale, limit: float | None) -> Markup:
    if limit is None:
        return Markup("")
    return svg.line(x(limit), 26, x(limit), 270, "budget") + svg.text(
        x(limit) + 5, 36, f"limit {words.score(limit)}", "budget-name"
    )


def _configuration_mark(point: TriedConfiguration, x: float, y: float) -> Markup:
    drawn = svg.mark(x, y, point.kind, point_hover(point))
    if not point.chosen:
        return drawn
    anchor, shift = ("end", -13) if x > WIDTH * 0.7 else ("start", 13)
    ring = Markup('<circle cx="{}" cy="{}" r="9.5" class="chosen"/>').format(x, y)
    return ring + drawn + svg.text(x + shift, y - 8, "chosen", "chosen-name", anchor)


def point_hover(point: TriedConfiguration) -> str:
    """Everything known of a point, its recipe last."""
    facts = [
        f"{point.name} ({point.kind})",
        f"drop {words.score(point.drop_selection)}",
        f"{words.rate(point.throughput_rows_per_s)} rows/s, p99 {words.millis(point.p99_ms)} ms, "
        f"{words.size(point.size_bytes)}",
    ]
    recipe = yaml.safe_dump(point.recipe, sort_keys=False, allow_unicode=True)
    return "\n".join([*facts, recipe.strip()] if point.recipe else facts)


def _kept(x: int, width: int, top: int, kept: int, before: int) -> list[Markup]:
    share = kept / before if before else 0.0
    return [
        svg.bar(x, top + 3, width, 14, "track"),
        svg.bar(x, top + 3, width * share, 14, "ours"),
        svg.text(x + width + 6, top + 14, f"{kept:,}/{before:,}", "value"),
    ]


def _ecdf(values: Sequence[float], x: svg.Scale, y: svg.Scale) -> list[tuple[float, float]]:
    """Points up to the axis's end: values beyond it are not drawn."""
    ordered, shares = sorted(values), [i / _ECDF_POINTS for i in range(_ECDF_POINTS + 1)]
    curve = [(ordered[round(share * (len(ordered) - 1))], share * 100) for share in shares]
    return [(x(value), y(share)) for value, share in curve if value <= x.high]


def _p99_mark(name: str, p99: float, x: svg.Scale, y: svg.Scale) -> Markup:
    height = 236 if name == "ours" else 218
    anchor, shift = ("end", -5) if x(p99) > WIDTH * 0.75 else ("start", 5)
    return svg.line(x(p99), y(99), x(p99), y(0), f"p99 {name}") + svg.text(
        x(p99) + shift, height, f"p99 {words.millis(p99)}", f"p99-name {name}", anchor
    )
