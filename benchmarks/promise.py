"""How often the limit holds on rows that nobody looked at, and what that costs in speed.

    python benchmarks/promise_pools.py            # once: the candidates and their answers
    python benchmarks/promise.py [--draws 1000] [--max-drop 1%]

A set's unseen rows stand for all there are. From them selection and test rows are drawn over and
over; on these the search's own rule freezes candidates and the acceptance test picks the answer;
its true loss is what it loses on all unseen rows. `broke` is the share of draws whose answer truly
loses more than the limit; at a confidence of 80% that may be 20% at most. `speed` is the geometric
mean of the answers' rows/s over the original's in the same engine. Cascades of the pool's models
are among the candidates, their answers put together from those of their stages.

Rules: `estimate` passes what loses no more on the test rows than the limit, as it once was;
`bound` tests by the bound, but freezes as if estimates counted; `aware` freezes by the chance to
pass the bound; `in use` with what a trial is believed to lose (search/shrinkage.py). Of that one
`single` freezes one candidate instead of several of rising risk, `more rows` has two thirds more
test rows, `strict` asks for 95%. `estimate, shrunk` shows what of the first one's losses was luck.
Result: results/promise.json; what is there is not drawn again.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from packaged import RESULTS, write_result
from packaged_classes import SETS
from promise_pools import WORK
from scipy.stats import t as student

from miaotui.budget import Budget, parse_drop
from miaotui.measure.statistics import PairedShares
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.acceptance import bound
from miaotui.search.candidates import MOST_FROZEN, frozen_candidates
from miaotui.search.evaluate import loss_errors
from miaotui.search.trials import Trial
from miaotui.tasks.text_classification import softmax

SIZES = {"few": (300, 600), "usual": (767, 1535)}
"""Selection and test rows."""
SHARES = (0.35, 0.5, 0.65, 0.8)
MORE_ROWS = 5 / 3
FEWEST_CHANGED = 0.02


@dataclass(frozen=True)
class Rule:
    """How candidates are frozen and tested. `frozen_at` is the confidence that freezing reckons
    with."""

    confidence: float
    frozen_at: float
    shrunk: bool = False
    most: int = MOST_FROZEN
    test_rows: float = 1.0


RULES = {
    "estimate": Rule(0.5, 0.5),
    "bound": Rule(0.8, 0.5),
    "aware": Rule(0.8, 0.8),
    "in use": Rule(0.8, 0.8, shrunk=True),
    "single": Rule(0.8, 0.8, shrunk=True, most=2),
    "more rows": Rule(0.8, 0.8, shrunk=True, test_rows=MORE_ROWS),
    "strict": Rule(0.95, 0.95, shrunk=True),
    "estimate, shrunk": Rule(0.5, 0.5, shrunk=True),
}


@cache
def errors_of(loss: PairedShares, test_rows: int) -> dict[str, float]:
    return loss_errors(loss, math.sqrt(loss.rows / test_rows))


bound_of = cache(bound)


@dataclass(frozen=True)
class Candidate:
    """What it answers of the unseen rows, beside the original."""

    recipe: Recipe
    rows_per_s: float
    lost: ndarray
    won: ndarray
    changed: ndarray
    variance_explained: float
    """Of the difference row by row, by what the original's own probabilities foresee of it."""

    @property
    def true_loss(self) -> float:
        return float(self.lost.mean() - self.won.mean())

    def loss(self, chosen: ndarray) -> PairedShares:
        return PairedShares(int(self.lost[chosen].sum()), int(self.won[chosen].sum()), len(chosen))

    def trial(self, chosen: ndarray, test_rows: int, shrunk: bool) -> Trial:
        loss = self.loss(chosen)
        changed = float(self.changed[chosen].mean())
        errors = errors_of(loss, test_rows)
        return Trial(
            recipe=self.recipe,
            origin="free",
            drop=loss.estimate,
            drop_error=errors["drop_error"],
            test_error=errors["test_error"],
            changed=changed,
            divergence=changed,
            follows_changes=shrunk,
            throughput_rows_per_s=self.rows_per_s,
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=1000)
    options.add_argument("--max-drop", default="1%")
    given = options.parse_args()
    path = RESULTS / "promise.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    asked = {"max_drop": parse_drop(given.max_drop), "draws": given.draws}
    done = stored if asked.items() <= stored.items() else {}
    conditions = json.loads((WORK / "conditions.json").read_text(encoding="utf-8"))
    done |= {"conditions": conditions, **asked}
    sets: dict[str, Any] = done.setdefault("sets", {})
    for name in [name for name in SETS if (WORK / name / "pool").exists()]:
        pool = candidates(WORK / name / "pool")
        of_set = sets.setdefault(name, {"candidates": [shown(c, pool[0]) for c in pool]})
        for size, rule in [(size, rule) for size in SIZES for rule in RULES]:
            figures = of_set.setdefault(size, {})
            if rule not in figures:
                figures[rule] = drawn(
                    pool, RULES[rule], *SIZES[size], done["max_drop"], given.draws
                )
                write_result("promise", done)
    done["lost_of_changed"] = lost_of_changed(sets)
    done["together"] = {
        size: {rule: together([s[size][rule] for s in sets.values()]) for rule in RULES}
        for size in SIZES
    }
    write_result("promise", done)
    print(json.dumps(done["together"], indent=1))


def candidates(pool: Path) -> list[Candidate]:
    """The original first, then all that is in the pool, then cascades of it."""
    targets = np.load(pool / "targets.npy")
    stored = [dict(np.load(path)) for path in sorted(pool.glob("*.npz"))]
    made = [(Recipe.model_validate_json(str(s["recipe"])), s) for s in stored]
    (original,) = [(recipe, s) for recipe, s in made if not recipe.steps]
    before = original[1]["outputs"].argmax(axis=1)
    scores, row = softmax(original[1]["outputs"]), np.arange(len(targets))

    def candidate(recipe: Recipe, rows_per_s: float, after: ndarray) -> Candidate:
        was_right, is_right = before == targets, after == targets
        foreseen = scores[row, before] - scores[row, after]
        difference = was_right.astype(np.float64) - is_right
        known = foreseen.std() > 0 and difference.std() > 0
        return Candidate(
            recipe=recipe,
            rows_per_s=rows_per_s,
            lost=was_right & ~is_right,
            won=is_right & ~was_right,
            changed=before != after,
            variance_explained=float(np.corrcoef(foreseen, difference)[0, 1] ** 2) if known else 0,
        )

    def plain(recipe: Recipe, s: dict[str, ndarray]) -> Candidate:
        return candidate(recipe, float(s["rows_per_s"]), s["outputs"].argmax(axis=1))

    fastest = max(made, key=lambda entry: float(entry[1]["rows_per_s"]))
    known = [plain(*original)]
    known += [plain(*entry) for entry in made if entry is not original]
    small = fastest[1]["outputs"]
    best = np.sort(small, axis=1)
    margin = best[:, -1] - best[:, -2]
    for recipe, s in made:
        if recipe == fastest[0] or not recipe.quantizing:
            continue
        for share in SHARES:
            sure = margin >= np.quantile(margin, 1 - share)
            after = np.where(sure, small.argmax(axis=1), s["outputs"].argmax(axis=1))
            seconds = 1 / float(fastest[1]["rows_per_s"]) + (1 - share) / float(s["rows_per_s"])
            known.append(candidate(planner.cascade(fastest[0], recipe, share), 1 / seconds, after))
    return known


def shown(candidate: Candidate, original: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.recipe.title,
        "speed": candidate.rows_per_s / original.rows_per_s,
        "true_loss": candidate.true_loss,
        "changed": float(candidate.changed.mean()),
        "variance_explained": candidate.variance_explained,
    }


def drawn(
    pool: Sequence[Candidate],
    rule: Rule,
    selection_rows: int,
    test_rows: int,
    max_drop: float,
    draws: int,
) -> dict[str, float]:
    """Every draw by its number, so that rules are compared on the same rows."""
    test_rows = round(rule.test_rows * test_rows)
    budget = Budget(max_drop, confidence=rule.frozen_at)
    broke, speeds, losses = 0, [], []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(pool[0].lost))
        chosen, test = order[:selection_rows], order[selection_rows : selection_rows + test_rows]
        trials = [candidate.trial(chosen, test_rows, rule.shrunk) for candidate in pool]
        frozen = frozen_candidates(trials, trials[0], budget, rule.most)
        answer = pool[0]
        for trial in frozen[1:]:
            candidate = pool[next(i for i, known in enumerate(trials) if known is trial)]
            if bound_of(candidate.loss(test), rule.confidence) > max_drop:
                break
            answer = candidate
        broke += answer.true_loss > max_drop
        speeds.append(answer.rows_per_s / pool[0].rows_per_s)
        losses.append(answer.true_loss)
    return {
        "draws": draws,
        "broke": broke / draws,
        "speed": float(np.exp(np.mean(np.log(speeds)))),
        "mean_true_loss": float(np.mean(losses)),
        "largest_true_loss": float(np.max(losses)),
    }


def lost_of_changed(sets: dict[str, Any]) -> dict[str, Any]:
    """What of the answers that a candidate changes is a loss, over those that change 2% and more:
    where search/shrinkage.py has its constants from."""
    ratios = {
        name: [
            entry["true_loss"] / entry["changed"]
            for entry in of_set["candidates"]
            if entry["changed"] >= FEWEST_CHANGED
        ]
        for name, of_set in sets.items()
    }
    whole = np.concatenate([np.array(of) for of in ratios.values()])
    return {
        "mean": float(whole.mean()),
        "standard_deviation": float(whole.std()),
        "mean_by_set": {name: float(np.mean(of)) for name, of in ratios.items()},
    }


def together(figures: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Over the sets: the share that broke with its Wilson interval for clusters, and the speed."""
    rates = np.array([entry["broke"] for entry in figures])
    return {
        "broke": float(rates.mean()),
        "interval_95": clustered_wilson(rates, figures[0]["draws"]),
        "worst_set": float(rates.max()),
        "speed": float(np.exp(np.mean(np.log([entry["speed"] for entry in figures])))),
        "mean_true_loss": float(np.mean([entry["mean_true_loss"] for entry in figures])),
        "largest_true_loss": max(entry["largest_true_loss"] for entry in figures),
    }


def clustered_wilson(rates: ndarray, draws: float) -> list[float]:
    """Wilson's interval with as many independent draws as the spread between the sets says, and
    Student's quantile for so few sets (Korn and Graubard 1998, Survey Methodology 24, 193-201, with
    Wilson's in place of Clopper and Pearson's)."""
    count, rate = len(rates), float(rates.mean())
    if not 0 < rate < 1 or count < 2:
        effective = draws * count
    else:
        effective = rate * (1 - rate) / max(float(rates.var(ddof=1)) / count, 1e-12)
        effective = min(effective, draws * count)
    quantile = float(student.ppf(0.975, max(count - 1, 1)))
    square = quantile**2 / effective
    middle = (rate + square / 2) / (1 + square)
    half = math.sqrt(square * (rate * (1 - rate) + square / 4)) / (1 + square)
    return [max(middle - half, 0.0), min(middle + half, 1.0)]


if __name__ == "__main__":
    main()
