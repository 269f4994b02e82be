import pytest
from pydantic import ValidationError
from report_example import example_document, example_result

from miaotui.measure.result import OptimizationResult, best_rival


def with_rivals(**rivals: dict[str, object]) -> OptimizationResult:
    speed = example_document()["speed"] | {"rivals": rivals}
    return example_result(speed=speed)


def test_the_json_document_round_trips() -> None:
    result = example_result()
    assert OptimizationResult.model_validate_json(result.model_dump_json()) == result


def test_the_document_has_the_promised_fields() -> None:
    document = example_result().model_dump(mode="json")
    assert list(document) == [
        "bundle",
        "task",
        "recipe",
        "trials",
        "seconds",
        "quality",
        "speed",
        "size_bytes",
        "notes",
        "details",
    ]
    assert document["speed"]["rivals"]["optimum-onnx-o3"]["throughput_rows_per_s"] is None


def test_details_may_be_missing() -> None:
    document = example_document()
    del document["details"], document["notes"]
    assert OptimizationResult.model_validate(document).details.configurations == []


def test_an_infinite_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        example_result(seconds=float("inf"))


@pytest.mark.parametrize("metric", ["throughput", "p50", "p99"])
def test_a_rival_that_breaks_the_limit_is_never_the_best(metric: str) -> None:
    fastest = example_result().speed.rivals["openvino-int8-nncf"]
    assert fastest.keeps_limit is False
    assert best_rival(example_result(), metric) == "onnxruntime-int8-dynamic"


def test_the_best_rival_is_chosen_for_each_metric() -> None:
    result = with_rivals(
        a={"throughput_rows_per_s": 9, "latency_ms": {"p50": 2, "p99": 3}, "keeps_limit": True},
        b={"throughput_rows_per_s": 8, "latency_ms": {"p50": 1, "p99": 4}, "keeps_limit": True},
    )
    best = [best_rival(result, metric) for metric in ("throughput", "p50", "p99")]
    assert best == ["a", "b", "a"]


def test_an_unmeasured_or_unjudged_rival_is_not_the_best() -> None:
    result = with_rivals(
        unmeasured={"keeps_limit": True}, unjudged={"throughput_rows_per_s": 9, "keeps_limit": None}
    )
    assert best_rival(result, "throughput") is None


def test_a_document_of_format_2_is_read_under_its_old_names() -> None:
    """As `benchmarks/results` has them."""
    whole = example_result().model_dump(mode="json")
    details = whole["details"]
    for new, old in (
        ("configurations", "front"),
        ("speedup_steps", "ladder"),
        ("acceptance", "gate"),
    ):
        assert details[new]
        details[old] = details.pop(new)
    assert OptimizationResult.model_validate(whole) == example_result()
