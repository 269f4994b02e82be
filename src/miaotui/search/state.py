"""What a search knows while it runs, and how it tries a recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from miaotui.budget import Budget, Objective
from miaotui.models.latency_table import LatencyTable
from miaotui.recipe import Recipe
from miaotui.search.candidates import allowed, best_so_far, promising
from miaotui.search.clock import Clock, News, Watch
from miaotui.search.context import Context
from miaotui.search.evaluate import Effort, evaluate
from miaotui.search.sensitivity import Sensitivity
from miaotui.search.side_by_side import are_timed_together, timed_together
from miaotui.search.trials import Origin, Trial, TrialStore

_EXPENSIVE_SHARE, _FAR_BEHIND = 0.02, 2.0
_TOGETHER_SHARE, _SHORTEST_TOGETHER_S = 0.06, 6.0
"""Of the budget, for one timing side by side."""


@dataclass
class SearchState:
    """Run state of one search; each stage adds trials, and the next looks at them."""

    context: Context
    budget: Budget
    store: TrialStore
    clock: Clock
    watch: Watch
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    latency: LatencyTable | None = None
    table_error: float | None = None
    sensitivity: Sequence[Sensitivity] = ()

    def try_(
        self, stage: str, recipe: Recipe, origin: Origin, seconds: float | None = None
    ) -> Trial:
        """Measures a recipe, or reads its stored trial; `seconds` bounds each of its recoveries."""
        self.tell(stage, recipe.title)

        def progress(line: str) -> None:
            self.tell(stage, line)

        effort = Effort.within(self.budget)
        trial = evaluate(recipe, origin, self.context, self.store, effort, seconds, progress)
        if trial.error:
            self.notes.append(f"{recipe.title}: {trial.error}")
        self.trials.append(trial)
        return trial

    def time_side_by_side(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials with figures of one interleaved run; `self.trials` and the store hold these
        now. Where the budget is too short for it, figures stay as they were."""
        seconds = _TOGETHER_SHARE * self.clock.budget_s
        if len(trials) < 2 or seconds < _SHORTEST_TOGETHER_S or are_timed_together(trials):
            return list(trials)
        self.tell("side by side", f"{len(trials)} leading ones side by side")
        timed = timed_together(self.context, trials, seconds)
        for trial in timed:
            self.store.put(trial)
        fresh = {trial.recipe.key: trial for trial in timed}
        self.trials = [fresh.get(t.recipe.key, t) for t in self.trials]
        return timed

    def timed_again_if_slower(self, trial: Trial, larger: Recipe) -> Trial:
        """The trial, or where it was slower than `larger`, the model it was made of in the same
        runtime or a cascade's own last stage, both timed again side by side: something else ran
        while one of them was looked at."""
        whole = next((t for t in self.trials if t.recipe.key == larger.key), None)
        if whole is None or not trial.ok or trial.times_behind(whole, self.budget.ranks_by) <= 1:
            return trial
        return self.time_side_by_side([whole, trial])[1]

    def tell(self, stage: str, trying: str) -> None:
        best = best_so_far(self.trials, self.budget)
        shown = "-" if best is None else f"{best.recipe.title}: {_figure(best, self.budget)}"
        self.watch(News(stage, trying, shown, self.clock.left_s))

    def leading(self, *origins: Origin) -> list[Trial]:
        """The trials of these origins that keep the limit, best first."""
        return self._ranked(origins, lambda trial: allowed(trial, self.budget))

    def hopeful(self, *origins: Origin) -> list[Trial]:
        """Those that may yet keep the limit, best first."""
        return self._ranked(origins, self.may_keep)

    def may_keep(self, trial: Trial) -> bool:
        """Whether a trial is worth building upon: it may keep the limit on other rows."""
        return promising(trial, self.budget)

    def _ranked(self, origins: Sequence[Origin], keeps: Callable[[Trial], bool]) -> list[Trial]:
        kept = [t for t in self.trials if t.origin in origins and keeps(t)]
        return sorted(kept, key=lambda t: t.cost(self.budget.ranks_by))

    def is_expensive(self, trial: Trial) -> bool:
        """Whether the search can afford only few trials that take as long: rows are long, or the
        engine slow."""
        return trial.seconds > _EXPENSIVE_SHARE * self.clock.search_s

    def is_worth_trying(self, recipe: Recipe) -> bool:
        """Not where its engine is expensive to try and all that was tried of it is far behind."""
        own = [t for t in self.trials if t.ok and t.recipe.engine.name == recipe.engine.name]
        best = self.leading("free")[:1]
        if not best or not own or not self.is_expensive(own[-1]):
            return True
        return any(t.times_behind(best[0], self.budget.ranks_by) < _FAR_BEHIND for t in own)

    def has_time(self, share: float = 1.0) -> bool:
        """Whether less than that share of the search's time is used."""
        return self.clock.search_left_s > (1 - share) * self.clock.search_s


def _figure(trial: Trial, budget: Budget) -> str:
    if budget.ranks_by is Objective.LATENCY:
        return f"p99 {trial.p99_ms:.2f} ms"
    if budget.ranks_by is Objective.SIZE:
        return f"{trial.size_bytes / 1e6:.1f} MB"
    return f"{trial.throughput_rows_per_s:,.0f} rows/s"
