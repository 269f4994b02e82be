import io
import re

import pytest
from report_example import COMMAND, example_document, example_result
from rich.console import Console

from miaotui.measure.result import OptimizationResult
from miaotui.report.card import card
from miaotui.report.table import headline, rivals_table
from miaotui.report.terminal import show_facts


def with_quality(**changed: object) -> OptimizationResult:
    return example_result(quality=example_document()["quality"] | changed)


def with_speed(**changed: object) -> OptimizationResult:
    return example_result(speed=example_document()["speed"] | changed)


def printed(result: OptimizationResult) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(rivals_table(result))
    return console.file.getvalue()


def test_the_card_contains_every_number_of_the_headline() -> None:
    body = card(example_result()).split("## Quality")[1]
    numbers = re.findall(r"−?\d[\d.,]*\d", headline(example_result()))
    assert len(numbers) > 12
    assert [number for number in numbers if number not in body] == []


def test_the_card_holds_all_parts() -> None:
    text = card(example_result())
    wanted = (
        COMMAND,
        "keep_time: 0.7",
        "layer 4: 6 of 12 heads, 768 of 1,536 ffn neurons",
        "prune 45% + distil + openvino/packed: loss 0.0133, failed",
        "模型可能见过这些评论",
        "tensorrt is unavailable: needs an NVIDIA GPU",
        "optimum-onnx-o3: dropped for time after 0 rounds",
        "openvino 2025.3.0",
        "| openvino-int8-nncf |",
    )
    assert [part for part in wanted if part not in text] == []


def test_a_card_without_details_says_so() -> None:
    text = card(example_result(details={}, notes=[]))
    assert "No layer was changed." in text
    assert text.count("Not recorded.") == 2


def test_few_test_rows_state_what_they_can_decide() -> None:
    assert "Only" not in card(example_result())
    assert "Only 612 test rows: a drop below about 0.01" in card(with_quality(rows=612))


def test_few_rows_of_another_metric_go_by_the_interval() -> None:
    text = card(with_quality(rows=612, metric="macro_f1"))
    assert "below about 0.0090 cannot" in text


@pytest.mark.parametrize(
    ("within", "within_95", "words"),
    [
        (True, True, "within the limit of 0.0100, at 95% too"),
        (True, False, "and below 0.0087 with 80% confidence: within the limit of 0.0100."),
        (False, False, "over the limit of 0.0100"),
    ],
)
def test_the_headline_tells_whether_the_limit_is_kept(
    within: bool, within_95: bool, words: str
) -> None:
    assert words in headline(with_quality(within_budget=within, within_budget_95=within_95))


@pytest.mark.parametrize(
    ("objective", "start"),
    [
        ("throughput", "2,215 rows/s: 2.02× (1.96–2.10) the speed of onnxruntime-int8-dynamic"),
        ("latency", "p99 latency 1.19 ms: 2.24× (2.17–2.32) the speed of onnxruntime"),
        ("size", "68.0 MB instead of 90.9 MB, 2,215 rows/s: 2.02×"),
    ],
)
def test_the_headline_is_about_the_objective(objective: str, start: str) -> None:
    assert headline(with_speed(objective=objective)).startswith(start)


def test_the_headline_says_where_no_rival_keeps_the_limit() -> None:
    result = with_speed(rivals={"a": {"throughput_rows_per_s": 9.0, "keeps_limit": False}})
    assert "no rival keeps the limit" in headline(result)


def test_markdown_and_html_in_names_are_escaped() -> None:
    text = card(example_result(notes=["<b>|*x*"], bundle="a\n# b"))
    assert r"\<b\>\|\*x\*" in text
    assert text.startswith("# a # b\n")


def test_the_table_fits_80_columns_and_names_everybody() -> None:
    text = printed(example_result())
    assert max(map(len, text.splitlines())) <= 80
    assert "2.02 (1.96–2.10)" in text
    assert "1,099*" in text
    assert "…" not in text


def test_rich_markup_in_a_name_is_printed_as_it_is() -> None:
    assert "[red]" in printed(with_speed(rivals={"[red]": {}}))


def test_a_folder_that_looks_like_markup_is_a_fact(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"bundle": "runs[/old]", "measured": {"of[/b]": ":x:"}})
    shown = capsys.readouterr().out
    assert "runs[/old]" in shown
    assert "measured.of[/b]" in shown
    assert ":x:" in shown
