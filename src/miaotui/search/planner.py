"""Which recipes to try in each stage: pure functions of the context and what led so far."""

from collections.abc import Sequence

from miaotui.budget import Objective
from miaotui.engines import ENGINES, REFERENCE
from miaotui.engines.base import Move
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.models.precision import Kind
from miaotui.recipe import CascadeStage, Recipe, Step
from miaotui.search.context import Context
from miaotui.search.trials import Trial
from miaotui.techniques import QUANTIZERS, DropLayers, LowRank, PruneStructure
from miaotui.training.settings import Distillation

TINY_LAYERS = 1
_REFERENCE = next(name for name, engine in ENGINES.items() if engine is REFERENCE)
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
    return Recipe(engine=REFERENCE() if _REFERENCE in engines else ENGINES[engines[0]]())


def first_moves(context: Context, engines: Sequence[str]) -> list[Recipe]:
    """What each engine suggests for the untouched model, after the original as it comes."""
    moves = [
        _of_move(move)
        for name, engine in ENGINES.items()
        if name in engines
        for move in engine.first_moves(context.model, context.workload)
    ]
    return [original_recipe(engines), *moves]


def _of_move(move: Move) -> Recipe:
    steps = () if move.kind is Kind.FP32 else (QUANTIZERS[move.kind].model_validate({}),)
    return Recipe.model_validate({"steps": steps, "engine": move.engine})


def refined_moves(context: Context, trial: Trial, objective: Objective) -> list[Recipe]:
    """Other settings of its engine for one that led."""
    recipe, one_by_one = trial.recipe, objective is Objective.LATENCY
    engines = recipe.engine.refined(context.model, context.workload, one_by_one)
    return [recipe.model_copy(update={"engine": engine}) for engine in engines]


def float_recipes(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """The untouched float model in the recipe's engine: as it comes, and in its layout."""
    plain = type(recipe.engine)()
    return Recipe(engine=plain), Recipe(engine=recipe.engine.in_float())


def quantized_otherwise(recipe: Recipe) -> list[Recipe]:
    """The same with other settings of its quantization, such as calibrators."""
    return [
        recipe.model_copy(update={"steps": (*recipe.shaping, *others)})
        for i, step in enumerate(recipe.quantizing)
        for variant in step.variants()
        for others in [(*recipe.quantizing[:i], variant, *recipe.quantizing[i + 1 :])]
    ]


def training_free(context: Context, runtime: Recipe) -> list[Recipe]:
    """Compression that needs no training, in front of the runtime's own quantization."""
    layers = len(context.model.encoder.shape.layers)
    shaping: list[Step] = [PruneStructure(keep_time=0.7), PruneStructure(keep_time=0.5)]
    shaping.append(LowRank(ratio=0.5))
    recipes = [before_quantizing(runtime, step) for step in shaping]
    if layers > 1:
        recipes.append(_first_layers(runtime, layers - 1))
    return recipes


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
    quantizing = tuple(step.for_layers(left) for step in runtime.quantizing)
    steps = (DropLayers(keep=tuple(range(layers))), *more, *quantizing)
    return runtime.model_copy(update={"steps": steps})


def cascade(first: Recipe, rest: Recipe, answers: float) -> Recipe:
    """A model in front of another, or of another cascade."""
    stage = CascadeStage(answers=answers, steps=first.steps, engine=first.engine)
    return Recipe(steps=rest.steps, engine=rest.engine, stages=(stage, *rest.stages))


def before_quantizing(runtime: Recipe, *shaping: Step) -> Recipe:
    return runtime.model_copy(update={"steps": (*shaping, *runtime.quantizing)})
