"""What a user writes as a limit, and what is refused."""

import pytest

from miaotui.budget import Budget, parse_bytes, parse_confidence, parse_drop, parse_duration
from miaotui.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "drop"), [("1%", 0.01), ("0.5%", 0.005), ("0.01", 0.01), (" 0% ", 0.0), ("2 %", 0.02)]
)
def test_drops(text: str, drop: float) -> None:
    assert parse_drop(text) == pytest.approx(drop)


@pytest.mark.parametrize("text", ["", "%", "one percent", "1%%"])
def test_a_drop_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="write it as 1% or 0.01"):
        parse_drop(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("90s", 90), ("5ms", 0.005), ("1h", 3600), ("1.5min", 90), ("30", 30)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_bare_duration_has_the_default_unit() -> None:
    assert parse_duration("5", default_unit="ms") == pytest.approx(0.005)


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 days", "1h30m"])
def test_a_strange_duration_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="is not a duration; write it as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200MB", 200_000_000),
        ("1.5GiB", 1_610_612_736),
        ("4096", 4096),
        ("64k", 64_000),
        ("1 KiB", 1024),
        ("12B", 12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1MB", "1XB", "1 MB 2"])
def test_a_strange_size_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="is not a size; write it as"):
        parse_bytes(text)


@pytest.mark.parametrize("drop", [-0.01, 1.0, 5.0, float("nan"), float("inf")])
def test_a_drop_outside_its_range_is_refused(drop: float) -> None:
    with pytest.raises(BudgetError, match="expected 0% or more and less than 100%"):
        Budget(max_drop=drop)


def test_a_time_too_short_to_measure_is_refused() -> None:
    with pytest.raises(BudgetError, match="30 s is too short.*60s"):
        Budget(time_budget_s=30)


@pytest.mark.parametrize("target", [0.0, -1.0])
def test_a_target_latency_is_positive(target: float) -> None:
    with pytest.raises(BudgetError, match="expected more than 0"):
        Budget(target_p99_ms=target)


def test_the_smallest_budget_is_allowed() -> None:
    assert Budget(max_drop=0.0, time_budget_s=60.0).max_drop == 0.0


@pytest.mark.parametrize("time_s", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(time_s: float) -> None:
    with pytest.raises(BudgetError):
        Budget(time_budget_s=time_s)


@pytest.mark.parametrize(
    ("text", "strict", "confidence"),
    [(None, False, 0.8), (None, True, 0.95), ("90%", False, 0.9), ("0.7", False, 0.7)],
)
def test_confidences(text: str | None, strict: bool, confidence: float) -> None:
    assert parse_confidence(text, strict) == pytest.approx(confidence)


def test_strict_and_a_confidence_are_refused_together() -> None:
    with pytest.raises(BudgetError, match="--strict is --confidence 95%"):
        parse_confidence("90%", True)


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, 80.0, float("nan")])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(BudgetError, match="expected 50% or more and less than 100%"):
        Budget(confidence=confidence)
