"""The context of a search over a tiny random encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import tiny_encoder
from miaotui.hardware import Machine, probe
from miaotui.measure.judge import Split, judge_for
from miaotui.models.model import Calibration, Model
from miaotui.search.context import Context
from miaotui.tasks.outputs import Outputs, Targets


def context(work: Path, model: Model | None = None, machine: Machine | None = None) -> Context:
    """Texts are words of the tiny tokenizer; targets are the model's own answers."""
    model = model or tiny_encoder.model()
    return Context(
        model=model,
        machine=machine or probe(),
        cores=1,
        judge=judge_for(model.task),
        train=_calibration(model, 64, 1),
        validation=_calibration(model, 48, 2),
        unlabelled=None,
        selection=_judged(model, 80, 3),
        test_rows=160,
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


def _targets(outputs: Outputs) -> Targets:
    values = outputs.values
    chosen = values[:, 0] if values.shape[1] == 1 else values.argmax(axis=1)
    return Targets(chosen, outputs.starts)


def _calibration(model: Model, count: int, seed: int) -> Calibration:
    rows = model.task.encode(_texts(count, seed))
    return Calibration(rows, _targets(tiny_encoder.outputs(model, rows)))


def _judged(model: Model, count: int, seed: int) -> Split:
    texts = _texts(count, seed)
    rows = model.task.encode(texts)
    outputs = tiny_encoder.outputs(model, rows)
    return Split(texts, rows, _targets(outputs), outputs)
