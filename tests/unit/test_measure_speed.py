"""Interleaving, fairness, deadlines and derived values, on a clock that contenders move."""

import gc
import time
from collections import Counter
from itertools import pairwise

import pytest
from pydantic import ValidationError

from miaotui.errors import BudgetError, DataError, RecipeError
from miaotui.measure.records import Measurement
from miaotui.measure.speed import (
    Contender,
    SpeedPlan,
    SpeedResult,
    measure_interleaved,
    ratios,
    round_order,
)

TEXTS = [f"text {i}" for i in range(50)]


class Clock:
    """Seconds that pass only when someone works; keeps what was done."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def contender(self, name, rows_per_s, latency_s=None, **settings):
        def run(texts):
            self.now += len(texts) / rows_per_s
            self.log.append((name, list(texts)))

        def run_one(text):
            self.now += latency_s
            self.log.append((name, text))

        return Contender(name, run, None if latency_s is None else run_one, **settings)

    def runs(self, name):
        return [what for who, what in self.log if who == name and isinstance(what, list)]

    def calls(self, name):
        return [what for who, what in self.log if who == name and isinstance(what, str)]


def _plan(**settings):
    return SpeedPlan(**{"settle_seconds": 0.0, "latency_calls": 0, **settings})


def _timed_runs(clock, result):
    """The runs of the timed rounds: the last ones."""
    return clock.runs(result.name)[-result.rounds :]


def test_every_contender_gets_the_same_texts_each_round():
    clock = Clock()
    field = [clock.contender("a", 100), clock.contender("b", 40), clock.contender("c", 25)]
    results = measure_interleaved(field, TEXTS, _plan(), clock=clock)
    assert list(results) == ["a", "b", "c"]
    texts = [_timed_runs(clock, result) for result in results.values()]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == 10
    assert texts[0][0] != texts[0][1]  # each round goes on where the last one ended


def test_rounds_are_interleaved_in_the_balanced_order():
    clock = Clock()
    field = [clock.contender(name, 100) for name in "abc"]
    measure_interleaved(field, TEXTS, _plan(rounds=6), clock=clock)
    who = [name for name, _ in clock.log][-18:]
    expected = ["abc"[place] for round_ in range(6) for place in round_order(3, round_)]
    assert who == expected


@pytest.mark.parametrize("contenders", range(1, 8))
def test_round_order_balances_places_and_predecessors(contenders):
    rounds = contenders if contenders % 2 == 0 else 2 * contenders
    orders = [round_order(contenders, index) for index in range(rounds)]
    everyone = list(range(contenders))
    assert all(sorted(order) == everyone for order in orders)
    assert all(Counter(place).total() == rounds for place in zip(*orders, strict=True))
    places = [Counter(place) for place in zip(*orders, strict=True)]
    assert all(set(count.values()) == {rounds // contenders} for count in places)
    follows = Counter(pair for order in orders for pair in pairwise(order))
    assert len(follows) == contenders * (contenders - 1)
    assert len(set(follows.values())) <= 1


def test_a_round_keeps_the_fastest_busy_as_long_as_asked():
    clock = Clock()
    field = [clock.contender("fast", 5000), clock.contender("slow", 2500)]
    results = measure_interleaved(field, TEXTS, _plan(round_seconds=2.0), clock=clock)
    assert min(results["fast"].seconds.values) >= 2.0
    assert max(results["fast"].seconds.values) < 3.0
    assert results["fast"].rows.values == results["slow"].rows.values
    assert results["fast"].throughput_rows_per_s == pytest.approx(5000)
    assert ratios(results["fast"], results["slow"])["throughput"].median == pytest.approx(2)


def test_a_round_that_was_too_short_makes_the_next_one_longer():
    clock = Clock()
    speed = {"rows_per_s": 100.0}

    def run(texts):
        clock.now += len(texts) / speed["rows_per_s"]
        if clock.now > 6:
            speed["rows_per_s"] = 400.0  # an engine that warms up late

    result = measure_interleaved([Contender("late", run)], TEXTS, _plan(), clock=clock)["late"]
    assert min(result.seconds.values[3:]) >= 2.0
    assert result.rows.values[-1] > 3 * result.rows.values[0]


def test_a_slow_contender_gets_a_prefix_of_the_same_texts():
    clock = Clock()
    field = [clock.contender("fast", 1000), clock.contender("slow", 5)]
    plan = _plan(round_seconds=2.0, max_round_seconds=4.0)
    results = measure_interleaved(field, TEXTS, plan, clock=clock)
    assert set(results["slow"].rows.values) <= {19, 20}
    assert max(results["slow"].seconds.values) <= 4.001
    fast, slow = (_timed_runs(clock, result) for result in results.values())
    assert all(long[: len(short)] == short for long, short in zip(fast, slow, strict=True))
    assert ratios(results["fast"], results["slow"])["throughput"].median == pytest.approx(200)


def test_texts_enter_rounds_shuffled_and_calls_in_row_order():
    clock = Clock()
    field = [clock.contender("a", 25, 0.01), clock.contender("b", 20, 0.02)]
    results = measure_interleaved(field, TEXTS, _plan(latency_calls=130), clock=clock)
    first_round = _timed_runs(clock, results["a"])[0]
    assert set(first_round[:50]) == set(TEXTS)
    assert first_round[:50] != TEXTS
    calls = clock.calls("a")[20:]  # after the warm-up
    assert calls == [TEXTS[i % 50] for i in range(130)]
    assert clock.calls("b")[20:] == calls
    assert sum(results["a"].calls.values) == 130


def test_latency_is_derived_from_all_calls():
    clock = Clock()
    durations = iter([0.001] * 20 + ([0.001] * 98 + [0.005] * 2) * 10)

    def run(texts):
        clock.now += len(texts) / 100

    def run_one(text):
        clock.now += next(durations)

    field = [Contender("mine", run, run_one), clock.contender("other", 50, 0.002)]
    results = measure_interleaved(field, TEXTS, _plan(latency_calls=1000), clock=clock)
    mine = results["mine"]
    assert len(mine.latency_ms.values) == 1000
    assert mine.has_enough_calls_for_p99
    assert mine.p50_ms == pytest.approx(1)
    assert mine.p99_ms == pytest.approx(5)
    assert mine.p99_ms_by_round.values == pytest.approx([5] * 10)
    compared = ratios(mine, results["other"])
    assert compared["p50"].median == pytest.approx(2)
    assert compared["p99"].median == pytest.approx(0.4)
    assert not compared["p99"].is_range


def test_a_p99_of_few_calls_says_so_and_without_calls_there_is_none():
    clock = Clock()
    field = [clock.contender("few", 100, 0.001), clock.contender("none", 100)]
    results = measure_interleaved(field, TEXTS, _plan(latency_calls=999), clock=clock)
    assert len(results["few"].latency_ms.values) == 999
    assert not results["few"].has_enough_calls_for_p99
    assert results["none"].p50_ms is None
    assert results["none"].p99_ms is None
    assert set(ratios(results["few"], results["none"])) == {"throughput"}


def test_first_call_and_warm_up_stand_apart():
    clock = Clock()
    calls = []

    def run(texts):
        clock.now += len(texts) / 100 + (0 if calls else 3.0)  # compiles at its first call
        calls.append(len(texts))

    result = measure_interleaved([Contender("c", run)], TEXTS, _plan(), clock=clock)["c"]
    assert result.first_call_ms == pytest.approx(3010)
    assert result.warmup_s == pytest.approx(sum(calls[1:-10]) / 100)
    assert max(result.seconds.values) < 3.0


def test_a_deadline_first_costs_rounds():
    clock = Clock()
    field = [clock.contender("a", 100), clock.contender("b", 80)]
    results = measure_interleaved(field, TEXTS, _plan(), deadline_s=30, clock=clock)
    assert 3 <= results["a"].rounds < 10
    assert results["b"].rounds == results["a"].rounds
    assert results["a"].dropped is results["b"].dropped is None
    assert clock.now <= 30
    assert ratios(results["a"], results["b"])["throughput"].is_range


def test_a_tighter_deadline_drops_the_slowest_and_says_so():
    clock = Clock()
    field = [clock.contender("slow", 5), clock.contender("a", 100), clock.contender("b", 80)]
    results = measure_interleaved(field, TEXTS, _plan(), deadline_s=40, clock=clock)
    assert "the slowest" in results["slow"].dropped
    assert results["slow"].rounds == 0
    assert results["slow"].throughput_rows_per_s is None
    assert results["a"].rounds == results["b"].rounds >= 3
    assert clock.now <= 40
    assert ratios(results["a"], results["slow"]) == {}


def test_what_must_stay_stays():
    clock = Clock()
    field = [
        clock.contender("slow", 5, droppable=False),
        clock.contender("a", 100),
        clock.contender("b", 80),
    ]
    results = measure_interleaved(field, TEXTS, _plan(), deadline_s=40, clock=clock)
    assert results["slow"].dropped is None
    assert results["slow"].rounds >= 1
    assert "the slowest" in results["b"].dropped


def test_a_contender_that_turns_slow_is_dropped_with_its_rounds_kept():
    clock = Clock()
    speed = {"rows_per_s": 100.0}

    def run(texts):
        clock.now += len(texts) / speed["rows_per_s"]
        if clock.now > 20:
            speed["rows_per_s"] = 20.0

    field = [Contender("tiring", run), clock.contender("steady", 100)]
    plan = _plan(min_rounds=8)
    results = measure_interleaved(field, TEXTS, plan, deadline_s=60, clock=clock)
    tiring, steady = results["tiring"], results["steady"]
    assert tiring.dropped
    assert f"after {tiring.rounds}" in tiring.dropped
    assert 1 <= tiring.rounds < steady.rounds
    assert ratios(steady, tiring)["throughput"].rounds == tiring.rounds


def test_calls_move_into_the_rounds_that_are_left():
    clock = Clock()
    field = [clock.contender("a", 100, 0.002)]
    plan = _plan(latency_calls=1000)
    result = measure_interleaved(field, TEXTS, plan, deadline_s=16, clock=clock)["a"]
    assert result.rounds < 10
    assert result.has_enough_calls_for_p99
    assert clock.now <= 16


def test_time_that_is_over_still_gives_one_result():
    clock = Clock()
    field = [clock.contender("a", 100), clock.contender("b", 100)]
    results = measure_interleaved(field, TEXTS, _plan(), deadline_s=0.001, clock=clock)
    assert results["a"].rounds == 1
    assert results["b"].dropped == "the time was over before its first call"
    assert results["b"].first_call_ms is None


def test_progress_rises_to_one():
    clock, shares = Clock(), []
    field = [clock.contender("a", 100), clock.contender("b", 60)]
    measure_interleaved(field, TEXTS, _plan(), on_progress=shares.append, clock=clock)
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 20)
    assert shares[-1] == 1.0


def test_conditions_travel_with_the_values():
    clock = Clock()
    contender = clock.contender("a", 100, 0.001, conditions={"threads": 2, "batch": 32})
    result = measure_interleaved([contender], TEXTS, _plan(latency_calls=9), clock=clock)["a"]
    assert result.rows_per_s.conditions == {"threads": 2, "batch": 32, "distinct_texts": 50}
    assert result.latency_ms.conditions["batch"] == 1


def test_results_and_measurements_survive_json():
    clock = Clock()
    result = measure_interleaved(
        [clock.contender("a", 100, 0.001)], TEXTS, _plan(latency_calls=20), clock=clock
    )["a"]
    assert SpeedResult.model_validate_json(result.model_dump_json()) == result
    kept = {"compiled": True, "threads": 1, "share": 1.0, "engine": "x", "batch": None}
    record = Measurement(name="n", unit="ms", values=[0.1, 3], conditions=kept)
    read = Measurement.model_validate_json(record.model_dump_json())
    assert read == record
    assert [type(value) for value in read.conditions.values()] == [
        bool, int, float, str, type(None)
    ]  # fmt: skip
    with pytest.raises(ValidationError):
        Measurement(name="n", unit="ms", values=[float("nan")])


def test_garbage_collection_rests_during_rounds_and_comes_back():
    clock, seen = Clock(), []

    def run(texts):
        clock.now += len(texts) / 100
        seen.append(gc.isenabled())

    measure_interleaved([Contender("a", run)], TEXTS, _plan(rounds=3), clock=clock)
    assert seen[-3:] == [False] * 3
    assert seen[0]
    assert gc.isenabled()


def test_an_interrupt_passes_through_and_leaves_no_trace():
    clock = Clock()

    def run(texts):
        clock.now += len(texts) / 100
        if not gc.isenabled():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_interleaved([Contender("a", run)], TEXTS, _plan(), clock=clock)
    assert gc.isenabled()


def test_real_contenders_that_sleep_give_the_right_ratio():
    def sleeper(seconds):
        return lambda texts: time.sleep(seconds * len(texts))

    field = [Contender("ours", sleeper(0.001)), Contender("theirs", sleeper(0.002))]
    plan = _plan(rounds=3, round_seconds=0.05, max_round_seconds=0.5, warmup_rows=4)
    results = measure_interleaved(field, TEXTS, plan)
    assert ratios(results["ours"], results["theirs"])["throughput"].median == pytest.approx(
        2, rel=0.15
    )


def test_a_contender_that_takes_no_time_at_all_still_ends():
    plan = _plan(rounds=1, min_rounds=1, round_seconds=0.2, max_round_seconds=1.0)
    result = measure_interleaved([Contender("noop", lambda texts: None)], TEXTS, plan)["noop"]
    assert result.rows.values == [1 << 20]


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 2},
        {"min_rounds": 0},
        {"round_seconds": 0.0},
        {"round_seconds": 6.0},
        {"latency_calls": -1},
        {"warmup_rows": 0},
    ],
)
def test_plans_that_cannot_work_are_refused(settings):
    with pytest.raises(BudgetError):
        SpeedPlan(**settings)


def test_contenders_need_names_and_texts():
    clock = Clock()
    twins = [clock.contender("a", 1), clock.contender("a", 2)]
    with pytest.raises(RecipeError, match="each with its own name"):
        measure_interleaved(twins, TEXTS, _plan())
    with pytest.raises(RecipeError, match="at least one"):
        measure_interleaved([], TEXTS, _plan())
    with pytest.raises(DataError, match="no texts"):
        measure_interleaved(twins[:1], [], _plan())


@pytest.mark.parametrize("rows_per_s", [30, 100, 1000])
def test_what_is_needed_at_least_is_enough_for_the_fewest_rounds(rows_per_s):
    clock, call_s = Clock(), 0.01
    plan = SpeedPlan(min_rounds=2, round_seconds=0.4, max_round_seconds=1.0, latency_calls=300)
    fast = clock.contender("fast", 1000, 0.001)
    slow = clock.contender("slow", rows_per_s, call_s)
    needed = plan.least_seconds(0.001) + plan.least_seconds(call_s)

    results = measure_interleaved([fast, slow], TEXTS, plan, deadline_s=needed, clock=clock)

    assert results["slow"].dropped is None
    assert results["slow"].rounds >= plan.min_rounds
    assert clock.now <= needed
