"""Stage 5: the tiny model answers what it is sure of, a larger one the rest."""

from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.state import SearchState
from miaotui.search.trials import Trial

_SHARES = (0.35, 0.5, 0.65, 0.8)
_START = 2


def cascades(state: SearchState, small: Trial) -> None:
    """In front of the best compressed model and of the best uncompressed one: more rows for the
    tiny model after a success, fewer after a failure."""
    if not small.ok:
        return
    seconds = [*state.hopeful("recovered", "compressed")[:2], *state.leading("free")[:1]]
    for second in seconds:
        if second.recipe.key != small.recipe.key:
            _climb(state, small.recipe, second.recipe)


def _climb(state: SearchState, first: Recipe, second: Recipe) -> None:
    at, tried = _START, set[int]()
    while 0 <= at < len(_SHARES) and at not in tried and state.clock.search_left_s > 0:
        tried.add(at)
        trial = state.try_("cascade", planner.cascade(first, second, _SHARES[at]), "cascade")
        at += 1 if state.may_keep(trial) else -1
