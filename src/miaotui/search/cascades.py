"""Stage 5: the tiny model answers what it is sure of, a larger one the rest."""

from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.candidates import allowed
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial

_SHARES = (0.35, 0.5, 0.65, 0.8)
_START = 2
_MIDDLE_SHARE = 0.6


def in_front_of_untrained(state: SearchState, small: Trial) -> None:
    """Of the best model as it is."""
    if small.ok:
        for rest in state.leading("free")[:1]:
            _climb(state, small.recipe, rest.recipe)


def cascades(state: SearchState, small: Trial) -> None:
    """In front of the best trained models (where there is none, of the best that needed no
    training), and of a cascade of two."""
    if not small.ok:
        return
    trained = [t for t in state.hopeful("recovered") if t.recipe != small.recipe]
    for second in trained[:2] or state.hopeful("compressed")[:1]:
        _climb(state, small.recipe, second.recipe)
    rest = _of_two(state, small)
    if rest is not None:
        _climb(state, small.recipe, rest)


def _of_two(state: SearchState, small: Trial) -> Recipe | None:
    """The fastest trained model, which may lose too much by itself, before the next larger one that
    does not."""
    trained = [t for t in state.trials if t.origin == "recovered" and t.ok]
    trained = [t for t in trained if t.recipe != small.recipe]
    if not trained:
        return None
    objective = state.budget.ranks_by
    middle = min(trained, key=lambda t: t.cost(objective))
    larger = [
        t for t in state.hopeful("recovered", "compressed", "free") if t.recipe != small.recipe
    ]
    slower = [t for t in larger if t.cost(objective) > middle.cost(objective)]
    return planner.cascade(middle.recipe, slower[0].recipe, _MIDDLE_SHARE) if slower else None


def _climb(state: SearchState, first: Recipe, rest: Recipe) -> None:
    """More rows for the tiny model while that may keep the limit, fewer until it does: between what
    may and what does lies something for the acceptance test to fall back on."""

    def tried(at: int) -> Trial | None:
        if not 0 <= at < len(_SHARES) or state.clock.search_left_s <= 0:
            return None
        trial = state.try_("cascade", planner.cascade(first, rest, _SHARES[at]), "cascade")
        return state.timed_again_if_slower(trial, rest)

    begun = tried(_START)
    up, trial = _START, begun
    while trial is not None and state.may_keep(trial):
        up += 1
        trial = tried(up)
    down, trial = _START, begun
    while trial is not None and not allowed(trial, state.budget):
        down -= 1
        trial = tried(down)
