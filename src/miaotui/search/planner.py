"""Which recipes to try, in stages: free moves, training-free compression, recovery."""

from collections.abc import Sequence

from miaotui.budget import Objective
from miaotui.engines import ENGINES
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.torch import TorchEngine
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.recipe import Recipe, Step
from miaotui.recovery.settings import Distillation
from miaotui.search.context import Context
from miaotui.search.trials import Trial
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static, PruneStructure

KEEP_TIMES = (0.7, 0.5, 0.35, 0.25)
_KEPT_AFTER_HALVING = 3


def usable_engines(machine: Machine, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The engines that run here, or of those asked for; one that cannot is refused by name."""
    reasons = {name: engine.unavailable(machine) for name, engine in ENGINES.items()}
    here = tuple(name for name, reason in reasons.items() if reason is None)
    for name in wanted or ():
        if name not in ENGINES:
            raise EngineUnavailable(f"there is no engine {name}; engines here: {', '.join(here)}")
        if reasons[name]:
            raise EngineUnavailable(f"{reasons[name]}; engines here: {', '.join(here)}")
    return tuple(wanted) if wanted else here


def original_recipe(engines: Sequence[str]) -> Recipe:
    """What always works: the untouched model, padded, in fp32."""
    if "torch" in engines:
        return Recipe(engine=TorchEngine())
    return Recipe(engine=_engine(engines[0], Padded(), 1, False))


def first_moves(context: Context, engines: Sequence[str]) -> list[Recipe]:
    """Each engine and precision once, in the layout that usually suits it."""
    layout: Layout = Packed() if context.model.has_adapter else Bucketed(edges=context.edges)
    moves = [original_recipe(engines)]
    bits: tuple[Step, ...]
    if "onnxruntime" in engines:
        int8: list[tuple[Step, ...]] = [(Int8Dynamic(),)]
        if context.model.has_adapter:
            int8 += [(Int8Static(calibrator=c),) for c in ("minmax", "percentile", "mse")]
        for bits in [(), *int8]:
            moves.append(Recipe(steps=bits, engine=_engine("onnxruntime", layout, 1, False)))
    if "openvino" in engines:
        moves.append(Recipe(engine=_engine("openvino", layout, 1, False)))
        if context.model.has_adapter:
            quantized = (Int8Static(calibrator="mse"),)
            moves.append(Recipe(steps=quantized, engine=_engine("openvino", layout, 1, False)))
        if context.machine.computes_bf16:
            engine = _engine("openvino", layout, 1, True)
            moves.append(Recipe(steps=(BFloat16(),), engine=engine))
    if "torch" in engines and context.machine.computes_bf16:
        moves.append(Recipe(steps=(BFloat16(),), engine=TorchEngine(layout=layout)))
    return moves


def refined_moves(context: Context, best: Sequence[Trial], objective: Objective) -> list[Recipe]:
    """Other layouts and streams for the few that led after the first moves."""
    layouts: list[Layout] = [Padded(batch=32), Bucketed(batch=16, edges=context.edges)]
    if context.model.has_adapter:
        layouts.append(Packed(batch=4, block_tokens=96, block_rows=16))
    streams = [1, context.cores] if context.cores > 1 else [1]
    if objective is Objective.LATENCY:
        layouts, streams = layouts[:2], [1]
    moves = []
    for trial in best[:_KEPT_AFTER_HALVING]:
        engine = trial.recipe.engine
        for num_streams in streams:
            for layout in [engine.layout, *layouts]:
                changed = engine.model_copy(update={"layout": layout, "streams": num_streams})
                moves.append(trial.recipe.model_copy(update={"engine": changed}))
    return moves


def pruned(runtime: Recipe, keep_time: float) -> Recipe:
    """Structured pruning in front of the runtime's own quantization."""
    steps = (PruneStructure(keep_time=keep_time), *runtime.quantizing)
    return runtime.model_copy(update={"steps": steps})


def recovered(runtime: Recipe, keep_time: float, seed: int) -> Recipe:
    """The same, distilled from the original after pruning."""
    steps = (PruneStructure(keep_time=keep_time), Distillation(seed=seed), *runtime.quantizing)
    return runtime.model_copy(update={"steps": steps})


def _engine(
    name: str, layout: Layout, streams: int, bf16: bool
) -> TorchEngine | OnnxRuntimeEngine | OpenVinoEngine:
    if name == "openvino":
        return OpenVinoEngine(layout=layout, streams=streams, bf16=bf16)
    return ENGINES[name](layout=layout, streams=streams)
