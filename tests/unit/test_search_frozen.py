"""Once the candidates are frozen the test split may be open: nothing is chosen anew."""

from pathlib import Path
from typing import NoReturn

import pytest

import tiny_context
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.torch import TorchEngine
from miaotui.models.latency_table import LatencyTable
from miaotui.recipe import Recipe
from miaotui.search.frozen import frozen_outcome
from miaotui.search.outcome import Outcome
from miaotui.search.sensitivity import Sensitivity
from miaotui.search.trials import Trial, TrialStore

ORIGINAL = Trial(recipe=Recipe(engine=TorchEngine()), origin="free", drop=0.0)
FASTER = Trial(recipe=Recipe(engine=OnnxRuntimeEngine()), origin="free", drop=0.001)
OUTCOME = Outcome(
    trials=(ORIGINAL, FASTER),
    baseline=ORIGINAL,
    candidates=(ORIGINAL, FASTER),
    latency=LatencyTable({0: 0.0, 2: 1.5}, {0: 0.0}, {0: 0.0}, {0: 0.0}, fixed_ms=0.5),
    table_error=0.03,
    sensitivity=(Sensitivity(0, 0.001, 0.2),),
    notes=("said",),
)
ASKED = {"max_drop": 0.01, "engines": ("torch", "onnxruntime")}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    store = TrialStore(tmp_path / "trials", "tiny")
    for trial in OUTCOME.trials:
        store.put(trial)
    return tmp_path


def never() -> NoReturn:
    pytest.fail("it searched again after the candidates were frozen")


def test_a_run_that_goes_on_does_not_search_again(work: Path) -> None:
    context = tiny_context.context(work)
    assert frozen_outcome(context, ASKED, lambda: OUTCOME) == OUTCOME
    assert frozen_outcome(context, dict(reversed(ASKED.items())), never) == OUTCOME


def test_other_limits_are_another_search_and_the_card_says_so(work: Path) -> None:
    context = tiny_context.context(work)
    frozen_outcome(context, ASKED, lambda: OUTCOME)
    found = frozen_outcome(context, {**ASKED, "max_drop": 0.02}, lambda: OUTCOME)
    assert found.candidates == OUTCOME.candidates
    assert "opened before" in found.notes[-1]


def test_without_its_trials_it_searches(work: Path) -> None:
    context = tiny_context.context(work)
    frozen_outcome(context, ASKED, lambda: OUTCOME)
    TrialStore(work / "trials", "tiny").path(FASTER.recipe).unlink()
    called = []
    frozen_outcome(context, ASKED, lambda: called.append(1) or OUTCOME)
    assert called
