"""The choice among trials is a pure function of them and the budget."""

import math

import pytest

from miaotui.budget import Budget, Objective
from miaotui.engines.layouts import Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.torch import TorchEngine
from miaotui.recipe import Recipe
from miaotui.search.candidates import (
    allowed,
    best_so_far,
    chance,
    frozen_candidates,
    pareto_front,
    promising,
    tuned_original,
)
from miaotui.search.trials import ClassDrop, Trial
from miaotui.techniques import Int8Dynamic

BUDGET = Budget(max_drop=0.01, confidence=0.5)
"""Judged by the estimate alone."""
SURE = Budget(max_drop=0.01, confidence=0.8)
ROWS = 768


def trial(number: int, rows_per_s: float, divergence: float, drop: float = 0.0, **more) -> Trial:
    """Recipes differ by their batch size alone; drops err as accuracies do over ROWS rows."""
    layout = Padded(batch=number + 1)
    error = math.sqrt(max(divergence, 1 / ROWS) / ROWS)
    facts = {"origin": "free", "p99_ms": 1e3 / rows_per_s, "size_bytes": 1, "changed": divergence}
    facts |= {"drop_error": error, "test_error": error} | more
    return Trial(
        recipe=Recipe(steps=(Int8Dynamic(),), engine=OnnxRuntimeEngine(layout=layout)),
        drop=drop,
        divergence=divergence,
        throughput_rows_per_s=rows_per_s,
        **facts,
    )


def surer(trial: Trial, times_the_rows: float = 4.0) -> Trial:
    """The same drop, measured on more rows."""
    error = trial.drop_error / math.sqrt(times_the_rows)
    return trial.model_copy(update={"drop_error": error, "test_error": error})


ORIGINAL = Trial(
    recipe=Recipe(engine=TorchEngine()),
    origin="free",
    drop=0.0,
    changed=0.0,
    divergence=0.0,
    throughput_rows_per_s=100,
    p99_ms=10,
)


def test_a_lucky_drop_does_not_hide_the_safer_step() -> None:
    """The fastest has the smallest drop by chance; the slower one answers more like the original
    and stays, to fall back on."""
    safe, lucky = trial(1, 200, 0.01, drop=0.002), trial(2, 400, 0.06, drop=-0.004)
    assert frozen_candidates([ORIGINAL, safe, lucky], ORIGINAL, BUDGET) == [
        ORIGINAL,
        safe,
        lucky,
    ]


def test_what_is_slower_and_further_off_is_left_out() -> None:
    better, worse = trial(1, 300, 0.02), trial(2, 200, 0.03)
    assert pareto_front([worse, better], BUDGET) == [better]


def test_at_most_five_are_frozen_and_both_ends_are_among_them() -> None:
    steps = [trial(i, 200 + 10 * i, 0.01 * i) for i in range(1, 12)]
    frozen = frozen_candidates([ORIGINAL, *steps], ORIGINAL, BUDGET)
    assert len(frozen) == 5
    assert frozen[0] == ORIGINAL
    assert frozen[1] == steps[0]
    assert frozen[-1] == steps[-1]
    speeds = [t.throughput_rows_per_s for t in frozen]
    assert speeds == sorted(speeds)


def test_steps_near_the_fast_end_are_worth_more_than_ones_that_surely_pass() -> None:
    """What a run on real rows knew: the safest bf16 gains least, and between the two fastest lies
    one that may pass where the fastest fails."""
    bf16, int8, pruned, halved, some, most = (
        trial(1, 674, 0.003),
        trial(2, 1112, 0.01, drop=-0.001),
        trial(3, 1865, 0.03, drop=0.004),
        trial(4, 4072, 0.08, drop=-0.005),
        trial(5, 6986, 0.09, drop=0.005),
        trial(6, 9970, 0.12, drop=0.008),
    )
    ladder_ = [bf16, int8, pruned, halved, some, most]
    frozen = frozen_candidates([ORIGINAL, *ladder_], ORIGINAL, BUDGET)
    assert frozen == [ORIGINAL, int8, halved, some, most]


def test_a_step_on_the_edge_of_the_limit_does_not_stand_before_a_faster_one_that_is_not() -> None:
    edge, clear = trial(1, 300, 0.03, drop=0.0099), trial(2, 400, 0.031, drop=0.0)
    assert frozen_candidates([ORIGINAL, edge, clear], ORIGINAL, BUDGET) == [ORIGINAL, clear]


def test_the_chance_to_pass_falls_with_drop_doubt_and_strictness() -> None:
    near, far = trial(1, 200, 0.04, drop=0.0), trial(1, 200, 0.04, drop=0.01)
    strict = Budget(max_drop=0.01, confidence=0.95)
    assert chance(far, BUDGET) == pytest.approx(0.5)
    assert chance(near, BUDGET) > chance(trial(1, 200, 0.08), BUDGET) > 0.5
    assert chance(surer(near), BUDGET) > chance(near, BUDGET)
    assert chance(near, strict) < chance(near, SURE) < chance(near, BUDGET)
    assert chance(near, Budget(max_drop=0.0)) == 1.0


def test_a_narrow_failure_on_few_rows_may_still_be_tested() -> None:
    """0.2 points over the limit are less than chance on 768 rows, a point and a half is not; on
    many rows both are sure to fail."""
    narrow, clear = trial(1, 400, 0.08, drop=0.012), trial(2, 500, 0.08, drop=0.025)
    assert not allowed(narrow, BUDGET)
    assert promising(narrow, BUDGET)
    assert not promising(clear, BUDGET)
    assert not promising(surer(narrow, 100), BUDGET)
    assert frozen_candidates([ORIGINAL, narrow, clear], ORIGINAL, BUDGET)[1:] == [narrow]


def test_what_keeps_the_limit_is_promising_however_strict_the_gate() -> None:
    strict = Budget(max_drop=0.01, confidence=0.95)
    kept = trial(1, 400, 0.08, drop=0.005)
    assert chance(kept, strict) < 0.3
    assert promising(kept, strict)


def test_more_test_rows_let_a_riskier_step_lead() -> None:
    """0.2 points lost of 1: on 768 test rows the bound is over the limit as often as not."""
    risky = trial(1, 400, 0.08, drop=0.002)
    assert allowed(risky, BUDGET)
    assert not allowed(risky, SURE)
    tested_on_more = risky.model_copy(update={"test_error": risky.test_error / 3})
    assert allowed(tested_on_more, SURE)


def test_the_untouched_model_passes_on_however_few_rows() -> None:
    on_few = ORIGINAL.model_copy(update={"drop_error": 0.2, "test_error": 0.2})
    assert chance(on_few, SURE) == 1.0
    assert allowed(on_few, SURE)


def test_the_class_that_loses_most_decides() -> None:
    def losing(drop: float, most: float | None) -> bool:
        entries = [
            ClassDrop(name="a", drop=0.0, drop_error=0.01, test_error=0.01),
            ClassDrop(name="b", drop=drop, drop_error=0.01, test_error=0.01),
        ]
        safe = trial(1, 400, 0.001, class_drops=entries)
        return allowed(safe, Budget(max_drop=0.01, max_class_drop=most))

    assert losing(0.02, 0.05)
    assert not losing(0.045, 0.05)
    assert losing(0.045, None)


def test_a_drop_without_any_error_is_what_it_is() -> None:
    """A bootstrap has no width where all answers that count are equal."""
    exact = {"drop_error": 0.0, "test_error": 0.0}
    assert chance(trial(1, 400, 0.0, drop=0.0, **exact), BUDGET) == pytest.approx(1.0)
    assert chance(trial(1, 400, 0.0, drop=0.011, **exact), BUDGET) == pytest.approx(0.0)


def test_with_a_target_p99_a_narrow_failure_does_not_stand_before_one_that_keeps_the_limit() -> (
    None
):
    budget = Budget(max_drop=0.01, target_p99_ms=4.0, confidence=0.5)
    narrow, kept = trial(1, 300, 0.08, drop=0.012), trial(2, 300, 0.09)
    assert promising(narrow, budget)
    assert frozen_candidates([ORIGINAL, narrow, kept], ORIGINAL, budget) == [ORIGINAL, kept]


def test_what_fails_or_does_not_fit_is_never_promising() -> None:
    limited = Budget(max_drop=0.01, max_memory_bytes=5 * 10**8)
    assert not promising(trial(1, 200, 0.02, error="no"), BUDGET)
    assert not promising(trial(1, 200, 0.02, memory_bytes=10**9), limited)
    assert not promising(trial(1, 200, 0.001), Budget(max_drop=0.0))


def test_slower_than_the_original_is_no_candidate() -> None:
    assert frozen_candidates([ORIGINAL, trial(1, 50, 0.001)], ORIGINAL, BUDGET) == [ORIGINAL]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, True),
        ({"drop": 0.011}, False),
        ({"error": "no"}, False),
        ({"memory_bytes": 10**9}, False),
        ({"memory_bytes": 10**8}, True),
    ],
)
def test_what_is_allowed(facts: dict, expected: bool) -> None:
    given = {"memory_bytes": 10**8, **facts}
    budget = Budget(max_drop=0.01, max_memory_bytes=5 * 10**8)
    assert allowed(trial(1, 200, 0.02, **given), budget) is expected


def test_an_unknown_memory_does_not_fit_a_limit() -> None:
    assert not allowed(trial(1, 200, 0.02), Budget(max_memory_bytes=10**9))


def test_no_drop_at_all_asks_for_equal_answers() -> None:
    none = Budget(max_drop=0.0)
    assert not allowed(trial(1, 200, 0.001, drop=-0.01), none)
    assert allowed(trial(1, 200, 0.0), none)


def test_a_target_p99_is_met_with_the_smallest_drop() -> None:
    budget = Budget(max_drop=0.01, target_p99_ms=4.0, confidence=0.5)
    slow, near, far = trial(1, 200, 0.01), trial(2, 300, 0.02, 0.001), trial(3, 900, 0.03, 0.008)
    assert frozen_candidates([ORIGINAL, slow, near, far], ORIGINAL, budget) == [
        ORIGINAL,
        near,
    ]
    assert budget.ranks_by is Objective.LATENCY


def test_the_baseline_is_the_best_float_that_was_not_changed() -> None:
    tuned = ORIGINAL.model_copy(
        update={
            "recipe": Recipe(engine=OnnxRuntimeEngine()),
            "throughput_rows_per_s": 150.0,
        }
    )
    trials = [ORIGINAL, tuned, trial(1, 900, 0.0)]
    assert tuned_original(trials, BUDGET) == tuned
    assert best_so_far(trials, BUDGET) == trials[2]
