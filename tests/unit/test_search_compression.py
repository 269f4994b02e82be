"""In which order smaller models are tried, and how few where a look at one is dear."""

from dataclasses import dataclass, field
from pathlib import Path

import tiny_context
from miaotui.budget import Budget
from miaotui.engines.native import NativeEngine
from miaotui.models.latency_table import arithmetic_table
from miaotui.recipe import Recipe
from miaotui.search.clock import Clock, silent
from miaotui.search.compression import compress
from miaotui.search.context import write_json
from miaotui.search.state import SearchState
from miaotui.search.trials import Origin, Trial, TrialStore

RUNTIME = Recipe(engine=NativeEngine())


@dataclass
class Tried(SearchState):
    """A search in which every trial takes `each_s` and keeps the limit."""

    each_s: float = 1.0
    tried: list[str] = field(default_factory=list)

    def try_(
        self, stage: str, recipe: Recipe, origin: Origin, seconds: float | None = None
    ) -> Trial:
        self.tried.append(origin if origin != "recovered" else _what(recipe))
        trial = Trial(
            recipe=recipe,
            origin=origin,
            drop=0.0,
            drop_error=0.01,
            test_error=0.01,
            throughput_rows_per_s=100.0,
            seconds=self.each_s,
        )
        self.trials.append(trial)
        return trial


def _what(recipe: Recipe) -> str:
    return " + ".join(type(step).__name__ for step in recipe.shaping)


def tried(work: Path, each_s: float) -> list[str]:
    context = tiny_context.context(work)
    table = arithmetic_table(context.model.encoder.shape).to_json()
    path = work / f"latency-{context.fingerprint}-{RUNTIME.key}-bulk.json"
    write_json(path, {"table": table, "error": 0.0})
    store = TrialStore(work / "trials", context.fingerprint)
    budget = Budget(max_drop=0.01, time_budget_s=1200, confidence=0.5)
    state = Tried(context, budget, store, Clock(1200.0), silent, each_s=each_s)
    state.try_("free moves", RUNTIME, "free")
    compress(state, RUNTIME)
    return state.tried[1:]


def test_the_tiny_model_comes_first_and_stands_before_the_untrained_one_at_once(
    tmp_path: Path,
) -> None:
    order = tried(tmp_path, each_s=1.0)

    assert order[:4] == ["compressed"] * 4
    assert order[4] == "DropLayers + Distillation"
    assert order[5:7] == ["cascade", "cascade"]
    assert order[7] == "PruneStructure + Distillation"
    assert order[8].startswith("PruneStructure + Distillation + PruneStructure")


def test_one_compression_without_training_is_enough_where_looks_are_dear(tmp_path: Path) -> None:
    assert tried(tmp_path, each_s=60.0).count("compressed") == 1
