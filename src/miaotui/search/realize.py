"""Turns a recipe's steps into a model; what a recovery made is kept in the work folder."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from miaotui.models.encoder import Encoder
from miaotui.models.hooks import Hooks
from miaotui.models.load import SHAPE_FILE, find_model, load_model, save_model
from miaotui.models.model import Model
from miaotui.recipe import Recipe, Step, is_training
from miaotui.search.context import Context, write_json
from miaotui.tasks.base import EncodedRows, joined
from miaotui.tasks.outputs import Targets, join_ragged
from miaotui.techniques import Technique
from miaotui.training.settings import Distillation
from miaotui.training.teacher import TeacherOutputs, cache_teacher, use_threads
from miaotui.training.trainer import distil

TRAINING_FILE = "training.json"
_CLEARLY_MORE = 1.5

Progress = Callable[[str], None]


def realize(
    recipe: Recipe, context: Context, seconds: float | None = None, progress: Progress | None = None
) -> Model:
    """The model after every step; `seconds` bounds each recovery. A recovery that was finished in
    an earlier run is read back."""
    steps = recipe.shaping
    model, begin = _recovered_before(steps, context, seconds)
    acting: Technique | None = None
    for i, step in enumerate(steps[begin:], begin + 1):
        if is_training(step):
            folder = _folder(context, steps[:i])
            model = _recovered(model, step, context, folder, seconds, progress, acting)
            acting = None
        else:
            model = step.prepare(model, context.train)
            acting = step if step.acts_in_training else None
    for step in recipe.quantizing:
        model = step.prepare(model, context.train)
    return model


def _recovered_before(
    steps: Sequence[Step], context: Context, seconds: float | None
) -> tuple[Model, int]:
    """The model after the last recovery that is stored with all before it, and how many steps that
    took; what they were made of is not made again."""
    stored: tuple[Path, int] | None = None
    for i, step in enumerate(steps, 1):
        if step.trains:
            folder = _folder(context, steps[:i])
            if not (folder / SHAPE_FILE).exists() or _too_short(folder, seconds):
                break
            stored = folder, i
    if stored is None:
        return context.model, 0
    return load_model(find_model(str(stored[0]))), stored[1]


def _folder(context: Context, steps: Sequence[Step]) -> Path:
    text = json.dumps([step.model_dump(mode="json") for step in steps], sort_keys=True)
    digest = hashlib.sha256(f"{context.fingerprint}{text}".encode()).hexdigest()[:16]
    return context.work / "models" / digest


def _recovered(  # noqa: PLR0913
    model: Model,
    step: Distillation,
    context: Context,
    folder: Path,
    seconds: float | None,
    progress: Progress | None,
    acting: Technique | None,
) -> Model:
    """`acting` is the technique that does its work in this training."""
    use_threads(context.cores)

    def open_hooks(student: Encoder) -> Hooks | None:
        if acting is None:
            return None
        return acting.open_(model.with_module(student), context.train)

    rows, targets, labelled = _training_rows(context)
    recovered = distil(
        model,
        teacher_outputs(context, rows, progress),
        rows,
        targets,
        labelled,
        (context.validation.rows, context.validation.targets),
        step,
        work=folder.with_suffix(".training"),
        seconds=seconds if seconds is not None else float("inf"),
        on_progress=_line(progress),
        open_hooks=open_hooks,
    )
    done = recovered.model
    if acting is not None and recovered.hooks is not None:
        done = acting.finish(done, recovered.hooks)
    draft = folder.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    save_model(done, draft)
    facts = {"seconds": seconds, "stopped": recovered.stopped, "steps": recovered.steps}
    write_json(draft / TRAINING_FILE, facts)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    return done


def trainings(recipe: Recipe, context: Context) -> list[str]:
    """What is written down of the stored recoveries of all stages; something else after one of them
    was made again with more time."""
    records = []
    for stage in recipe.each_stage:
        for i, step in enumerate(stage.shaping, 1):
            path = _folder(context, stage.shaping[:i]) / TRAINING_FILE
            if step.trains and path.exists():
                records.append(path.read_text(encoding="utf-8"))
    return records


def outgrown(recipe: Recipe, context: Context, seconds: float | None) -> bool:
    """Whether a training of the recipe was cut short in an earlier run, and clearly more time is
    offered now."""
    done: list[Step] = []
    for step in recipe.shaping:
        done.append(step)
        if step.trains and _too_short(_folder(context, done), seconds):
            return True
    return any(outgrown(stage.recipe, context, seconds) for stage in recipe.stages)


def _too_short(folder: Path, seconds: float | None) -> bool:
    path = folder / TRAINING_FILE
    if seconds is None or not path.exists():
        return False
    facts = json.loads(path.read_text(encoding="utf-8"))
    taken = facts["seconds"]
    return facts["stopped"] == "time" and taken is not None and seconds > _CLEARLY_MORE * taken


def _line(progress: Progress | None) -> Callable[..., None] | None:
    if progress is None:
        return None

    def report(step: int, total: int, eta_s: float, metric: float | None) -> None:
        known = "" if metric is None else f", validation {metric:.3f}"
        progress(f"distilling: step {step} of {total}, {eta_s:.0f} s left{known}")

    return report


def _share(progress: Progress) -> Callable[[float], None]:
    told = [0]

    def report(share: float) -> None:
        if int(10 * share) > told[0]:
            told[0] = int(10 * share)
            progress(f"the original answers the training rows: {share:.0%}")

    return report


def _training_rows(context: Context) -> tuple[EncodedRows, Targets, Bool[ndarray, " rows"]]:
    """Labelled rows first, then the unlabelled ones with targets of zero."""
    train, extra = context.train, context.unlabelled
    if extra is None or not len(extra):
        return train.rows, train.targets, np.ones(len(train.rows), dtype=bool)
    known, starts = train.targets.values, extra.readout_starts
    none = Targets(np.zeros((starts[-1], *known.shape[1:]), dtype=known.dtype), starts)
    labelled = np.arange(len(train.rows) + len(extra)) < len(train.rows)
    return joined([train.rows, extra]), join_ragged([train.targets, none]), labelled


def teacher_outputs(
    context: Context, rows: EncodedRows, progress: Progress | None = None
) -> TeacherOutputs:
    """The original's outputs on the training rows, computed once a search."""
    folder = context.work / f"teacher-{context.fingerprint}-{len(rows)}"
    if folder.exists():
        return TeacherOutputs.load(folder)
    told = None if progress is None else _share(progress)
    bf16 = context.machine.computes_bf16
    outputs = cache_teacher(context.model.encoder, rows, told, bf16=bf16)
    draft = folder.with_suffix(".tmp")
    outputs.save(draft)
    draft.replace(folder)
    return outputs
