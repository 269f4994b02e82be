"""The context of a search over a tiny random encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import tiny_encoder
from miaotui.hardware import Machine, probe
from miaotui.models.model import Calibration, Model
from miaotui.search.context import Context, SplitRows
from miaotui.tasks.text_classification import Problem


def context(work: Path, model: Model | None = None, machine: Machine | None = None) -> Context:
    """Texts are words of the tiny tokenizer; targets are the model's own answers."""
    model = model or tiny_encoder.model()
    return Context(
        model=model,
        machine=machine or probe(),
        cores=1,
        metric="spearman" if model.task.problem is Problem.REGRESSION else "accuracy",
        train=_calibration(model, 64, 1),
        validation=_calibration(model, 48, 2),
        unlabelled=None,
        selection=_judged(model, 80, 3),
        work=work,
        fingerprint="tiny",
        seed=0,
    )


def machine_with(isa: tuple[str, ...]) -> Machine:
    return replace(probe(), isa=isa)


def _texts(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(2, 20, count)
    return [" ".join(f"w{i}" for i in draw.integers(0, 60, size)) for size in sizes]


def _targets(model: Model, logits: np.ndarray) -> np.ndarray:
    if model.task.problem is Problem.REGRESSION:
        return logits[:, 0].astype(np.float32)
    return logits.argmax(axis=1)


def _calibration(model: Model, count: int, seed: int) -> Calibration:
    rows = model.task.encode(_texts(count, seed))
    return Calibration(rows, _targets(model, tiny_encoder.logits(model, rows)))


def _judged(model: Model, count: int, seed: int) -> SplitRows:
    texts = _texts(count, seed)
    rows = model.task.encode(texts)
    logits = tiny_encoder.logits(model, rows)
    return SplitRows(texts, rows, _targets(model, logits), logits)
