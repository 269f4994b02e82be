"""What each layer loses by int8, and int8 recipes with the worst of them back in float."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from miaotui.models.precision import Precision
from miaotui.recipe import Recipe
from miaotui.search.build import build_and_open
from miaotui.search.context import Context, write_json
from miaotui.tasks.outputs import Outputs
from miaotui.techniques.base import SkippedIn


@dataclass(frozen=True)
class Sensitivity:
    """One layer quantized alone: the drop on the selection rows, and the mean squared change of
    the logits, which tells layers apart where few answers change."""

    layer: int
    drop: float
    distance: float


def layer_sensitivity(
    context: Context, runtime: Recipe, has_time: Callable[[], bool] = lambda: True
) -> list[Sensitivity]:
    """Of the runtime's own int8, layer by layer while there is time; read back where it was
    measured before."""
    path = context.work / f"sensitivity-{context.fingerprint}-{runtime.key}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    measured = [Sensitivity(**entry) for entry in stored]
    layers = len(context.model.encoder.shape.layers)
    if len(measured) == layers:
        return measured
    (step,) = runtime.quantizing
    quantized = step.prepare(context.model, context.train)
    for layer in range(len(measured), layers):
        if not has_time():
            break
        prefix = f"layers.{layer}."
        alone = {n: p for n, p in quantized.precision.items() if n.startswith(prefix)}
        model = replace(quantized, precision=Precision(alone, quantized.precision.calibrator))
        folder = context.work / "engines" / "sensitivity"
        with build_and_open(runtime.engine, model, context, folder) as session:
            outputs = session.run(context.selection.rows)
        measured.append(_judged(context, layer, outputs))
        write_json(path, [asdict(entry) for entry in measured])
    return measured


def _judged(context: Context, layer: int, outputs: Outputs) -> Sensitivity:
    drop = context.judge.compare(outputs, context.selection).drop
    change = outputs.values - context.selection.original.values
    return Sensitivity(layer, drop, float(np.mean(change**2)))


def can_fall_back(recipe: Recipe) -> bool:
    """Whether its quantization can leave layers out."""
    return any(step.skips for step in recipe.quantizing)


def with_fallback(
    runtime: Recipe, measured: Sequence[Sensitivity], layers: int, skipped_in: SkippedIn = "fp32"
) -> Recipe:
    """The runtime with that many of its most sensitive layers back in float."""
    worst = sorted(measured, key=lambda entry: -entry.distance)[:layers]
    skip = tuple(f"layers.{entry.layer}." for entry in sorted(worst, key=lambda e: e.layer))
    quantizing = tuple(step.skipping(skip, skipped_in) for step in runtime.quantizing)
    return runtime.model_copy(update={"steps": (*runtime.shaping, *quantizing)})
