import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_example import COMMAND, example_document, example_result

from miaotui.errors import OutputError
from miaotui.measure.result import OptimizationResult
from miaotui.report import charts
from miaotui.report.page import page, write_report
from miaotui.report.sentences import headline, notes

NASTY = "<script>alert(1)</script>\"'"
CHARTS = (
    charts.trade_off_chart,
    charts.speedup_chart,
    charts.layers_chart,
    charts.sensitivity_chart,
    charts.latency_chart,
)


class Tags(HTMLParser):
    """All start tags with their attributes, and the open tags at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.found


def with_details(**changed: object) -> OptimizationResult:
    return example_result(details=example_document()["details"] | changed)


def test_the_page_says_what_the_card_says(tmp_path: Path) -> None:
    written = write_report(example_result(), tmp_path / "report.html")
    text = written.read_text(encoding="utf-8")
    for part in (headline(example_result()), COMMAND, *notes(example_result()), "评论-minilm-fast"):
        assert part in text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = page(with_details(command="miaotui https://example.org"))
    found = tags(html)
    loading = {"script", "link", "iframe", "img", "object", "embed", "base"}
    assert loading.isdisjoint(tag for tag, _ in found)
    assert not re.search(r"url\(|@import", html)
    for _, attributes in found:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
        assert not any(
            "http://" in (v or "") or "https://" in (v or "") for v in attributes.values()
        )


def test_nasty_names_are_escaped_everywhere() -> None:
    nasty = with_details(
        configurations=[
            {"name": NASTY, "kind": "free", "drop_selection": 0, "throughput_rows_per_s": 1}
        ],
        speedup_steps=[{"step": NASTY, "throughput_rows_per_s": 1.0}],
        sensitivity=[{"layer": NASTY, "drop": 0.1}],
        acceptance=[{"name": NASTY, "drop": 0.1, "passed": True}],
        unavailable={NASTY: NASTY},
        environment={NASTY: NASTY},
        command=NASTY,
    )
    rivals = {"rivals": {NASTY: {"dropped": NASTY}}}
    document = nasty.model_dump() | {"bundle": NASTY, "recipe": {NASTY: NASTY}, "notes": [NASTY]}
    document["speed"] |= rivals
    html = page(OptimizationResult.model_validate(document))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") > 12


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
def test_a_chart_without_data_is_none(chart) -> None:
    assert chart(example_result(details={})) is None
    assert chart(example_result()).startswith("<svg")


def test_sections_without_data_say_so_in_a_line() -> None:
    html = page(example_result(details={}, notes=[]))
    assert html.count('class="nothing"') == 8
    assert "<svg" not in html


def test_the_front_marks_the_chosen_point_and_the_limit() -> None:
    drawn = charts.trade_off_chart(example_result())
    assert drawn.count('class="mark ') == 10
    assert drawn.count('class="chosen"') == 1
    assert "keep_time: 0.7" in drawn
    assert "limit 0.0100" in drawn
    assert charts.beyond_the_edge(example_result()) == 1


@pytest.mark.parametrize("objective", ["throughput", "latency", "size"])
def test_faster_or_smaller_is_always_upwards(objective: str) -> None:
    kept = {"kind": "free", "drop_selection": 0.0}
    good = {"throughput_rows_per_s": 9.0, "p99_ms": 1.0, "size_bytes": 10} | kept
    bad = {"throughput_rows_per_s": 1.0, "p99_ms": 9.0, "size_bytes": 90} | kept
    result = with_details(configurations=[good | {"name": "good"}, bad | {"name": "bad"}])
    speed = result.speed.model_copy(update={"objective": objective})
    drawn = charts.trade_off_chart(result.model_copy(update={"speed": speed}))
    heights = [float(y) for y in re.findall(r"translate\(\S+ (\S+)\)", drawn)]
    assert heights[0] < heights[1]


@pytest.mark.parametrize("drops", [[0.0], [0.0, 0.0], [-0.01, -0.02], [0.5]])
@pytest.mark.parametrize("limit", [None, 0.0, 0.01])
def test_odd_values_are_drawn_inside(drops: list[float], limit: float | None) -> None:
    front = [
        {"name": "x", "kind": "free", "drop_selection": drop, "throughput_rows_per_s": 0.0}
        for drop in drops
    ]
    sensitivity = [{"layer": i, "drop": drop} for i, drop in enumerate(drops)]
    html = page(with_details(configurations=front, sensitivity=sensitivity, max_drop=limit))
    places = re.findall(r"translate\((\S+) (\S+)\)", html)
    assert len(places) == len(drops)
    assert all(0 <= float(x) <= charts.WIDTH for x, _ in places)
    assert "nan" not in html


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(example_result(), tmp_path)
