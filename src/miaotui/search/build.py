"""Lowers what a recipe asks for into a folder, every stage of it, and opens it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from miaotui.cascade import (
    ENGINE_FOLDER,
    FIRST_FOLDER,
    First,
    confidence,
    open_stages,
    write_first,
)
from miaotui.engines import Engine
from miaotui.engines.base import RowRunner, Session
from miaotui.errors import EngineFailed, MiaotuiError, first_line
from miaotui.models.model import Model
from miaotui.recipe import FirstStage, Recipe
from miaotui.search.context import Context
from miaotui.search.realize import Progress, realize


def build_recipe(
    recipe: Recipe,
    context: Context,
    folder: Path,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Model:
    """The recipe's own model, lowered into `folder`; a first stage beside it. `seconds` bounds
    each recovery that is still to be done."""
    if recipe.first is not None:
        _build_first(recipe.first, context, folder, seconds, progress)
    model = realize(recipe, context, seconds, progress)
    _lower(recipe.engine, model, context, folder / ENGINE_FOLDER)
    return model


def open_recipe(recipe: Recipe, context: Context, folder: Path) -> RowRunner:
    """What `build_recipe` wrote, on the context's cores."""
    with _failures_of(recipe.engine):
        return open_stages(recipe.engine, folder, context.cores)


def build_and_open(engine: Engine, model: Model, context: Context, folder: Path) -> Session:
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


def _build_first(
    stage: FirstStage,
    context: Context,
    folder: Path,
    seconds: float | None,
    progress: Progress | None,
) -> None:
    """The threshold is what the asked share of validation rows reaches."""
    model = realize(stage.recipe, context, seconds, progress)
    session = build_and_open(stage.engine, model, context, folder / FIRST_FOLDER)
    sure = confidence(context.problem, session.run(context.validation.rows))
    session.close()
    threshold = float(np.quantile(sure, 1 - stage.answers))
    write_first(folder, First(engine=stage.engine, problem=context.problem, threshold=threshold))


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
