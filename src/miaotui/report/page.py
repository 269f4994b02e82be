"""The result as one HTML page that needs nothing else: no network, no script, no font."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from miaotui.errors import OutputError
from miaotui.measure.result import Baseline, OptimizationResult
from miaotui.paths import write_whole
from miaotui.report import charts, sentences, svg, words
from miaotui.report.comparison import compared_rows

_FOLDER = Path(__file__).parent


def write_report(result: OptimizationResult, path: Path) -> Path:
    """Writes the page to `path` and returns it; an OutputError where that cannot be written."""
    try:
        write_whole(path, page(result))
    except OSError as error:
        raise OutputError(f"the report {path} cannot be written: {error}") from error
    return path


def page(result: OptimizationResult) -> str:
    """The HTML text; everything that comes from the result is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    return template.render(
        result=result,
        words=words,
        loss=sentences.loss,
        point_hover=charts.point_hover,
        css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        name=Path(result.bundle).name or result.bundle,
        **_texts(result),
        **_drawings(result),
    )


def _texts(result: OptimizationResult) -> dict[str, Any]:
    return {
        "headline": sentences.headline(result),
        "tiles": _tiles(result),
        "verdict": sentences.verdict(result),
        "notes": sentences.notes(result),
        "rows": compared_rows(result),
        "metric": sentences.metric_name(result),
        "recipe": sentences.recipe_yaml(result),
        "conditions": sentences.conditions(result),
        "num_beyond": charts.beyond_the_edge(result),
    }


def _drawings(result: OptimizationResult) -> dict[str, Any]:
    present = {point.kind for point in result.details.configurations}
    return {
        "trade_off": charts.trade_off_chart(result),
        "speedup": charts.speedup_chart(result),
        "layers": charts.layers_chart(result),
        "sensitivity": charts.sensitivity_chart(result),
        "latency": charts.latency_chart(result),
        "legend": [(kind, shape) for kind, shape in svg.MARKS.items() if kind in present],
    }


def _tiles(result: OptimizationResult) -> list[tuple[str, str, str]]:
    """Number, its range or origin, and what it is."""
    quality, size = result.quality, result.size_bytes
    figures = []
    best = sentences.judged_rival(result)
    baseline = "the speed of the uncompressed original in our best runtime"
    against: list[tuple[Baseline, str]] = [(result.speed.baseline, baseline)]
    if best is not None:
        against.insert(0, (best[1], f"the speed of {best[0]}, the best rival"))
    for other, meaning in against:
        triple = sentences.judged_ratio(result, other)
        if triple is not None:
            low, median, high = triple
            figures.append((f"{median:.2f}×", f"{low:.2f}–{high:.2f}", meaning))
    span = words.interval(quality.drop_interval_95)
    drop = f"{sentences.metric_name(result)} lost, {sentences.verdict(result)}"
    figures.append((words.score(quality.drop), span, drop))
    before = f"{words.size(size.original)} before"
    figures.append((words.size(size.optimized), before, "needed to serve"))
    return figures
