"""Lowers what a recipe asks for into a folder, every stage of it, and opens it."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.cascade import (
    ENGINE_FOLDER,
    Stage,
    Stages,
    fit_error_curve,
    open_stages,
    stage_confidence,
    stage_folder,
    write_stages,
)
from miaotui.engines import Engine
from miaotui.engines.base import RowRunner
from miaotui.errors import EngineFailed, MiaotuiError, RecipeError, first_line
from miaotui.models.model import Model
from miaotui.models.shape import EncoderShape, shape_from_json, shape_to_json
from miaotui.recipe import Recipe
from miaotui.search.context import Context, write_json
from miaotui.search.realize import Progress, realize, trainings
from miaotui.tasks.task import ConfidenceName


def build_recipe(
    recipe: Recipe,
    context: Context,
    folder: Path,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Model:
    """The recipe's last model, lowered into `folder`; the earlier stages beside it. `seconds`
    bounds each recovery that is still to be done."""
    model = realize(recipe, context, seconds, progress)
    _lower(recipe.engine, model, context, folder / ENGINE_FOLDER)
    if recipe.stages:
        _build_earlier_stages(recipe, context, folder, seconds, progress)
    return model


@dataclass(frozen=True)
class Built:
    """A lowered recipe: its folder, and the shape of its own model where the family has one."""

    folder: Path
    shape: EncoderShape | None


def built(recipe: Recipe, context: Context) -> Built:
    """The recipe lowered to stay, once a search: timing, acceptance test and proof open the same
    files."""
    folder = context.work / "candidates" / _built_key(recipe, context)
    marker = folder.with_suffix(".json")  # written last, beside what becomes a bundle
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        model = build_recipe(recipe, context, folder)
        write_json(marker, None if model.shape is None else shape_to_json(model.shape))
    stored = json.loads(marker.read_text(encoding="utf-8"))
    return Built(folder, None if stored is None else shape_from_json(stored))


def _built_key(recipe: Recipe, context: Context) -> str:
    """A pruned model depends on the latency table too, a trained one on how long it was trained."""
    steps = [step for stage in recipe.each_stage for step in stage.steps]
    timed = any(step.uses_latency for step in steps)
    table = context.train.latency if timed else None
    facts = f"{context.fingerprint}{recipe.key}{table.to_json() if table else ''}"
    facts += "".join(trainings(recipe, context))
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def open_recipe(recipe: Recipe, context: Context, folder: Path) -> RowRunner:
    """What `build_recipe` wrote, on the context's cores."""
    with _failures_of(recipe.engine):
        return open_stages(recipe.engine, folder, context.cores)


def build_and_open(engine: Engine, model: Model, context: Context, folder: Path) -> RowRunner:
    """Lowers one model and opens it; an engine library's own failure becomes an EngineFailed."""
    _lower(engine, model, context, folder)
    with _failures_of(engine):
        return engine.open(folder, context.cores)


def _lower(engine: Engine, model: Model, context: Context, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with _failures_of(engine):
        engine.build(model, context.train, folder)


@contextmanager
def _failures_of(engine: Engine) -> Iterator[None]:
    """Turns what an engine's library raises into an EngineFailed; errors of ours pass."""
    try:
        yield
    except MiaotuiError:
        raise
    except (RuntimeError, ValueError) as error:
        raise EngineFailed(f"{engine.name}: {first_line(error)}") from error


def _build_earlier_stages(
    recipe: Recipe,
    context: Context,
    folder: Path,
    seconds: float | None,
    progress: Progress | None,
) -> None:
    """Each stage gets the validation rows that the ones before it leave; its threshold is what the
    asked share of them reaches."""
    rows, stages = context.validation.rows, []
    name = _confidence(context)
    better = _last_answers(recipe, context, folder) if name == "expected-error" else None
    waiting = np.arange(len(rows))
    for number, stage in enumerate(recipe.stages):
        model = realize(stage.recipe, context, seconds, progress)
        place = stage_folder(folder, number)
        with build_and_open(stage.engine, model, context, place) as session:
            outputs = session.run(rows.select(waiting))
        curve = None if better is None else fit_error_curve(outputs.values[:, 0], better[waiting])
        sure = stage_confidence(name, outputs, curve)
        threshold = float(np.quantile(sure, 1 - stage.answers))
        stages.append(Stage(engine=stage.engine, threshold=threshold, curve=curve))
        left = waiting[sure < threshold]
        if not len(left):
            raise RecipeError(
                f"stage {number + 1} of the cascade is equally sure of all {len(waiting)} "
                "validation rows that reach it; give more rows, or leave it out"
            )
        waiting = left
    write_stages(folder, Stages(confidence=name, stages=tuple(stages)))


def _confidence(context: Context) -> ConfidenceName:
    task = context.model.task
    if task.confidence is None:
        raise RecipeError(f"a cascade of {task.name} has nothing to tell a sure answer by")
    return task.confidence


def _last_answers(recipe: Recipe, context: Context, folder: Path) -> Float32[ndarray, " rows"]:
    """What the last stage answers on validation rows, in numbers."""
    place = folder / ENGINE_FOLDER
    with _failures_of(recipe.engine), recipe.engine.open(place, context.cores) as last:
        return last.run(context.validation.rows).values[:, 0]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
