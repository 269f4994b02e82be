"""Which recipes to try in each stage: pure functions of the context and what led so far."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from miaotui.budget import Objective
from miaotui.engines import ENGINES
from miaotui.engines.base import BatchedEngine
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.tensorrt import TensorRtEngine
from miaotui.engines.torch import TorchEngine
from miaotui.engines.torch_compile import TorchCompileEngine
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.recipe import CascadeStage, Recipe, Step
from miaotui.search.context import Context
from miaotui.search.trials import Trial
from miaotui.techniques import (
    BFloat16,
    DropLayers,
    Int8Dynamic,
    Int8Static,
    LowRank,
    PruneStructure,
)
from miaotui.training.settings import Distillation

TINY_LAYERS = 1
_TINY_EPOCHS, _TINY_RATE = 6, 6e-4


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


def tried_unasked(engines: Sequence[str]) -> tuple[str, ...]:
    """Those of the engines that a search tries where nobody asked for them by name."""
    return tuple(name for name in engines if ENGINES[name].builds_fast)


def original_recipe(engines: Sequence[str]) -> Recipe:
    """What always works: the untouched model, padded, in fp32."""
    return Recipe(engine=TorchEngine() if "torch" in engines else ENGINES[engines[0]]())


def first_moves(context: Context, engines: Sequence[str]) -> list[Recipe]:
    """Each engine and precision once, in the layout that usually suits it."""
    moves = [move for name, own in _FIRST_MOVES.items() if name in engines for move in own(context)]
    return [original_recipe(engines), *moves]


def _native_moves(context: Context) -> Iterator[Recipe]:
    if not context.model.has_adapter:
        return
    yield Recipe(steps=(Int8Static(),), engine=NativeEngine())
    yield Recipe(steps=(Int8Dynamic(),), engine=NativeEngine())
    if context.machine.computes_bf16:
        yield Recipe(steps=(BFloat16(),), engine=NativeEngine())
    yield Recipe(engine=NativeEngine())


def _openvino_moves(context: Context) -> Iterator[Recipe]:
    openvino = OpenVinoEngine(layout=_usual_layout(context), weight_bits=_weight_bits(context))
    if context.model.has_adapter:
        yield Recipe(steps=(Int8Static(),), engine=openvino)
    yield Recipe(engine=openvino)
    if context.machine.computes_bf16:
        halved = openvino.model_copy(update={"bf16": True})
        yield Recipe(steps=(BFloat16(),), engine=halved)


def _onnxruntime_moves(context: Context) -> Iterator[Recipe]:
    runtime = OnnxRuntimeEngine(layout=_usual_layout(context), weight_bits=_weight_bits(context))
    yield Recipe(steps=(Int8Dynamic(),), engine=runtime)
    if context.model.has_adapter:
        yield Recipe(steps=(Int8Static(),), engine=runtime)
    yield Recipe(engine=runtime)
    if context.machine.gpus and "onnxruntime-gpu" in context.machine.versions:
        yield Recipe(engine=runtime.model_copy(update={"provider": "cuda"}))
        yield Recipe(engine=runtime.model_copy(update={"provider": "tensorrt"}))


def _tensorrt_moves(context: Context) -> Iterator[Recipe]:
    tensorrt = TensorRtEngine(layout=_usual_layout(context), fp16=True)
    yield Recipe(engine=tensorrt)
    if context.model.has_adapter:
        yield Recipe(steps=(Int8Static(),), engine=tensorrt)
    yield Recipe(engine=tensorrt.model_copy(update={"fp16": False}))


def _torch_moves(context: Context) -> Iterator[Recipe]:
    if context.machine.computes_bf16:
        yield Recipe(steps=(BFloat16(),), engine=TorchEngine(layout=_usual_layout(context)))


def _torch_compile_moves(context: Context) -> Iterator[Recipe]:
    compiled = TorchCompileEngine(layout=_usual_layout(context), weight_bits=_weight_bits(context))
    yield Recipe(steps=(Int8Dynamic(),), engine=compiled)
    if context.machine.computes_bf16:
        yield Recipe(steps=(BFloat16(),), engine=compiled)
    yield Recipe(engine=compiled)


_FIRST_MOVES: dict[str, Callable[[Context], Iterator[Recipe]]] = {
    "native": _native_moves,
    "openvino": _openvino_moves,
    "onnxruntime": _onnxruntime_moves,
    "tensorrt": _tensorrt_moves,
    "torch": _torch_moves,
    "torch-compile": _torch_compile_moves,
}


def _weight_bits(context: Context) -> Literal[7, 8]:
    return 7 if context.machine.saturates_int8 else 8


def _usual_layout(context: Context) -> Layout:
    if context.model.has_adapter:
        return Packed(batch=8, block_tokens=context.block_tokens)
    return Bucketed(edges=context.edges)


def refined_moves(context: Context, trial: Trial, objective: Objective) -> list[Recipe]:
    """Other layouts, streams and threads for one that led, as far as its engine has them."""
    recipe = trial.recipe
    if not isinstance(recipe.engine, BatchedEngine):
        changes = _thread_changes(context) if objective is Objective.LATENCY else []
    elif objective is Objective.LATENCY:
        changes = _single_row_changes(context, recipe.engine)
    else:
        changes = _bulk_changes(context)
    engines = [recipe.engine.model_copy(update=change) for change in changes]
    return [recipe.model_copy(update={"engine": engine}) for engine in engines]


def _bulk_changes(context: Context) -> list[dict[str, object]]:
    tokens = context.block_tokens
    layouts: list[Layout] = [Bucketed(batch=16, edges=context.edges)]
    if context.model.has_adapter:
        layouts = [
            Packed(batch=4, block_tokens=tokens),
            Packed(batch=4, block_tokens=2 * tokens),
            *layouts,
        ]
    else:
        layouts.append(Padded(batch=32))
    streams = (context.cores, 1) if context.cores > 1 else (1,)
    return [{"streams": s, "layout": layout} for s in streams for layout in layouts]


def _thread_changes(context: Context) -> list[dict[str, object]]:
    """Threads of an engine without a layout; all cores are its default."""
    return [{"threads": 1}] if context.cores > 1 else []


def _single_row_changes(context: Context, engine: BatchedEngine) -> list[dict[str, object]]:
    """Single rows are the same in all layouts but buckets."""
    threads = {1, context.cores}
    other = Padded() if isinstance(engine.layout, Bucketed) else engine.layout
    layouts: list[Layout] = [Bucketed(batch=16, edges=context.single_edges), other]
    return [{"threads": t, "layout": layout} for t in sorted(threads) for layout in layouts]


def float_recipes(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """The untouched float model in the recipe's engine: as it comes, and in its layout."""
    plain = type(recipe.engine)()
    narrow = [name for name in ("bf16", "fp16") if name in type(plain).model_fields]
    tuned = recipe.engine.model_copy(update=dict.fromkeys(narrow, False))
    return Recipe(engine=plain), Recipe(engine=tuned)


def other_calibrators(recipe: Recipe) -> list[Recipe]:
    """The same int8 with ranges chosen otherwise."""
    found = []
    for calibrator in ("percentile", "minmax"):
        steps = tuple(
            s.model_copy(update={"calibrator": calibrator}) if isinstance(s, Int8Static) else s
            for s in recipe.steps
        )
        if steps != recipe.steps:
            found.append(recipe.model_copy(update={"steps": steps}))
    return found


def training_free(context: Context, runtime: Recipe) -> list[Recipe]:
    """Compression that needs no training, in front of the runtime's own quantization."""
    layers = len(context.model.encoder.shape.layers)
    shaping: list[Step] = [PruneStructure(keep_time=0.7), PruneStructure(keep_time=0.5)]
    shaping.append(LowRank(ratio=0.5))
    found = [before_quantizing(runtime, step) for step in shaping]
    if layers > 1:
        found.append(_first_layers(runtime, layers - 1))
    return found


def pruned(runtime: Recipe, keep_time: float, seed: int) -> Recipe:
    """Structured pruning, then distillation from the original. Of a recipe that did so already,
    the model it made is pruned further."""
    return before_quantizing(
        runtime, *runtime.shaping, PruneStructure(keep_time=keep_time), Distillation(seed=seed)
    )


def halved(context: Context, runtime: Recipe, seed: int) -> Recipe:
    """The first half of the layers, distilled: what a single row waits for is their number."""
    layers = len(context.model.encoder.shape.layers)
    return _first_layers(runtime, -(-layers // 2), Distillation(seed=seed))


def tiny(runtime: Recipe, seed: int) -> Recipe:
    """The first layer alone, distilled for longer and at a higher rate than a deeper model would
    bear: the first stage of a cascade."""
    training = Distillation(seed=seed, epochs=_TINY_EPOCHS, learning_rate=_TINY_RATE)
    return _first_layers(runtime, TINY_LAYERS, training)


def _first_layers(runtime: Recipe, layers: int, *more: Step) -> Recipe:
    """Fallback to float names layers; those that are gone are taken off its list."""
    left = tuple(f"layers.{i}." for i in range(layers))
    quantizing = tuple(
        step.model_copy(update={"skip": tuple(s for s in step.skip if s in left)})
        if isinstance(step, Int8Dynamic | Int8Static)
        else step
        for step in runtime.quantizing
    )
    steps = (DropLayers(keep=tuple(range(layers))), *more, *quantizing)
    return runtime.model_copy(update={"steps": steps})


def cascade(first: Recipe, rest: Recipe, answers: float) -> Recipe:
    """A model in front of another, or of another cascade."""
    stage = CascadeStage(answers=answers, steps=first.steps, engine=first.engine)
    return Recipe(steps=rest.steps, engine=rest.engine, stages=(stage, *rest.stages))


def before_quantizing(runtime: Recipe, *shaping: Step) -> Recipe:
    return runtime.model_copy(update={"steps": (*shaping, *runtime.quantizing)})
