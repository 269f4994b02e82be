"""Pools of candidates for promise.py: made once for each set, every candidate's outputs kept.

    python benchmarks/promise_pools.py [--sets multiemo-en,...] [--seconds 60]

A set's original is fine-tuned on its known rows; then what a search would make of it is made
(quantized, compressed without training, distilled for `--seconds` each), and original and
candidates answer the unseen rows. bench-work/promise/<set>/pool/ has outputs and speed of each
(.npz); what is there is not made again. Cascades need no run of their own: their answers follow
from their stages'.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from packaged import conditions, miaotui
from packaged_classes import SETS, encoder_of, write_set

from miaotui.budget import Budget
from miaotui.engines.native import NativeEngine
from miaotui.errors import RecipeError
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.prepare import prepare
from miaotui.quiet import silence_telemetry
from miaotui.recipe import Recipe
from miaotui.search import planner
from miaotui.search.build import build_recipe, open_recipe
from miaotui.search.context import Context
from miaotui.search.latency import stored_table
from miaotui.tasks.base import EncodedRows
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static

WORK = Path("bench-work") / "promise"
TRAINING = {True: ("2", "2e-4"), False: ("2", "2e-4")}
"""Epochs and learning rate: of the multilingual encoder, and of MiniLM."""
_TIMED_ROWS, _ROUNDS = 1_000, 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--seconds", type=float, default=60.0, help="of each training")
    given = options.parse_args()
    silence_telemetry()
    for name in given.sets.split(","):
        make_pool(name, given.seconds)
    (WORK / "conditions.json").write_text(json.dumps(conditions(), indent=1), encoding="utf-8")


def make_pool(name: str, seconds: float) -> None:
    folder = write_set(name, WORK)
    pool = folder / "pool"
    pool.mkdir(exist_ok=True)
    original = folder / "original"
    if not original.exists():
        epochs, rate = TRAINING[SETS[name].chinese]
        miaotui(
            "finetune", encoder_of(name, WORK), "--data", folder / "known.csv", "--out", original,
            "--epochs", epochs, "--learning-rate", rate,
        )  # fmt: skip
    options = OptimizeOptions(
        str(original), RowsOptions(folder / "known.csv"), folder / "out", Budget(time_budget_s=3600)
    )
    context = prepare(options).context
    task = context.model.task
    unseen = task.read_rows(folder / "unseen.csv")
    rows = task.encode(unseen.texts)
    np.save(pool / "targets.npy", task.targets(unseen, rows).values)
    runtime = Recipe(engine=NativeEngine(), steps=(Int8Static(),))
    latency, _ = stored_table(context, runtime, False, 30.0)
    context = context.with_latency(latency)
    for kind, recipe in recipes(context, runtime):
        path = pool / f"{kind}-{recipe.key}.npz"
        if not path.exists():
            try:
                keep(recipe, context, rows, path, seconds)
            except RecipeError as error:  # a search would go on too
                sys.stderr.write(f"{name}: {recipe.title}: {error}\n")


def recipes(context: Context, runtime: Recipe) -> list[tuple[str, Recipe]]:
    """The original in fp32 first, then what a search tries, by where it comes from."""
    engine = runtime.engine
    free = [Recipe(engine=engine, steps=steps) for steps in ((), (BFloat16(),), (Int8Dynamic(),))]
    shortened = planner.pruned(runtime, 0.4, context.seed)
    further = planner.pruned(shortened, 0.7, context.seed)
    recovered = [
        planner.tiny(runtime, context.seed),
        planner.pruned(runtime, 0.6, context.seed),
        shortened,
        further,
        planner.pruned(further, 0.7, context.seed),
        planner.halved(context, runtime, context.seed),
    ]
    return [
        *(("free", recipe) for recipe in (*free, runtime)),
        *(("compressed", recipe) for recipe in planner.training_free(context, runtime)),
        *(("recovered", recipe) for recipe in recovered),
    ]


def keep(recipe: Recipe, context: Context, rows: EncodedRows, path: Path, seconds: float) -> None:
    """Makes the candidate, has it answer, and writes outputs, rows/s and what it is."""
    began = time.monotonic()
    folder = context.work / "pool"
    build_recipe(recipe, context, folder, seconds)
    with open_recipe(recipe, context, folder) as session:
        outputs = session.run(rows)
        speed = _rows_per_s(session.run, rows)
    draft = path.with_suffix(".tmp.npz")
    np.savez(draft, outputs=outputs.values, rows_per_s=speed, recipe=recipe.model_dump_json())
    draft.replace(path)
    sys.stderr.write(
        f"{path.parent.parent.name}: {recipe.title}: {speed:,.0f} rows/s, "
        f"{time.monotonic() - began:.0f} s\n"
    )


def _rows_per_s(run, rows: EncodedRows) -> float:  # type: ignore[no-untyped-def]
    sample, seconds = rows.select(range(min(_TIMED_ROWS, len(rows)))), []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run(sample)
        seconds.append(time.perf_counter() - began)
    return len(sample) / float(np.median(seconds))


if __name__ == "__main__":
    main()
