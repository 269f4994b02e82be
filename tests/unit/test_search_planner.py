"""Which recipes are tried: pure functions of the machine, the rows and what led."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import tiny_context
from miaotui.budget import Objective
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.errors import EngineUnavailable, RecipeError
from miaotui.hardware import probe
from miaotui.recipe import CascadeStage, Recipe, read_recipe
from miaotui.search import planner
from miaotui.search.trials import Trial
from miaotui.techniques import BFloat16, DropLayers, Int8Dynamic, Int8Static, PruneStructure
from miaotui.training.settings import Distillation

ENGINES = ("torch", "onnxruntime", "openvino")
RUNTIME = Recipe(
    steps=(Int8Static(),), engine=OpenVinoEngine(layout=Packed(block_tokens=32), streams=2)
)


def test_the_first_move_is_the_original_as_it_comes(tmp_path: Path) -> None:
    first = planner.first_moves(tiny_context.context(tmp_path), ENGINES)[0]
    assert first == planner.original_recipe(ENGINES)
    assert first.engine.name == "torch"
    assert not first.steps


def test_first_moves_know_each_recipe_once_and_only_the_engines_given(tmp_path: Path) -> None:
    moves = planner.first_moves(tiny_context.context(tmp_path), ("onnxruntime",))
    assert len({move.key for move in moves}) == len(moves)
    assert {move.engine.name for move in moves} == {"onnxruntime"}


@pytest.mark.parametrize(
    ("isa", "bits", "bf16"),
    [(("avx2",), 7, False), (("avx512f", "avx512_vnni", "avx512_bf16"), 8, True)],
)
def test_the_instruction_set_decides_bits_and_bf16(
    tmp_path: Path, isa: tuple[str, ...], bits: int, bf16: bool
) -> None:
    context = tiny_context.context(tmp_path, machine=tiny_context.machine_with(isa))
    moves = planner.first_moves(context, ENGINES)
    assert {m.engine.weight_bits for m in moves if isinstance(m.engine, OpenVinoEngine)} == {bits}
    assert any(isinstance(s, BFloat16) for m in moves for s in m.steps) is bf16


def test_where_byte_products_saturate_the_native_engine_tries_seven_bits_first_then_eight(
    tmp_path: Path,
) -> None:
    context = tiny_context.context(tmp_path, machine=tiny_context.machine_with(("avx2",)))
    moves = planner.first_moves(context, ("torch", "native"))[1:]
    assert [(move.engine, *map(type, move.steps)) for move in moves] == [
        (NativeEngine(weight_bits=7), Int8Static),
        (NativeEngine(weight_bits=7), Int8Dynamic),
        (NativeEngine(), Int8Static),
        (NativeEngine(), Int8Dynamic),
        (NativeEngine(),),
    ]
    assert planner.float_recipes(moves[0]) == (Recipe(engine=NativeEngine()),) * 2


def test_latency_refines_threads_and_throughput_streams(tmp_path: Path) -> None:
    context = tiny_context.context(tmp_path)
    trial = Trial(recipe=RUNTIME, origin="free")
    latency = planner.refined_moves(context, trial, Objective.LATENCY)
    bulk = planner.refined_moves(context, trial, Objective.THROUGHPUT)
    assert all(move.engine.threads == 1 for move in latency)
    assert {move.engine.layout.kind for move in bulk} == {"packed", "bucketed"}
    assert all(move.steps == RUNTIME.steps for move in [*latency, *bulk])


@pytest.mark.parametrize(
    ("layout", "kinds"),
    [
        (Packed(block_tokens=32), ["bucketed", "packed"]),
        (Bucketed(edges=(8, 16)), ["bucketed", "padded"]),
    ],
    ids=["packed", "bucketed"],
)
def test_single_rows_are_tried_in_buckets_and_in_one_other_layout(
    layout: Layout, kinds: list[str], tmp_path: Path
) -> None:
    context = tiny_context.context(tmp_path)
    trial = Trial(recipe=Recipe(engine=OpenVinoEngine(layout=layout)), origin="free")

    moves = planner.refined_moves(context, trial, Objective.LATENCY)

    assert [move.engine.layout.kind for move in moves] == kinds


def test_no_bucket_is_longer_than_the_model_takes(tmp_path: Path) -> None:
    context = tiny_context.context(tmp_path)
    assert context.model.task.max_tokens == 64

    assert context.workload.single_edges[-1] == context.workload.edges[-1] == 64
    assert context.longest_row < 24


def test_the_native_engine_is_tried_first_and_has_no_layouts(tmp_path: Path) -> None:
    context = tiny_context.context(
        tmp_path, machine=tiny_context.machine_with(("avx512f", "avx512_vnni", "avx512_bf16"))
    )
    moves = planner.first_moves(context, ("torch", "native", "openvino"))
    native = [move for move in moves if move.engine.name == "native"]
    assert moves[1:5] == native
    assert [[type(s) for s in move.steps] for move in native] == [
        [Int8Static],
        [Int8Dynamic],
        [BFloat16],
        [],
    ]
    trial = Trial(recipe=native[0], origin="free")
    assert planner.refined_moves(context, trial, Objective.THROUGHPUT) == []
    two = replace(context, cores=2)
    (alone,) = planner.refined_moves(two, trial, Objective.LATENCY)
    assert alone.engine == NativeEngine(threads=1)
    assert planner.float_recipes(native[0]) == (Recipe(engine=NativeEngine()),) * 2


def test_the_float_recipes_go_from_the_engine_as_it_comes_to_its_layout() -> None:
    plain, tuned = planner.float_recipes(RUNTIME)
    assert plain.engine == OpenVinoEngine(layout=Padded())
    assert tuned.engine == RUNTIME.engine
    assert not plain.steps
    assert not tuned.steps


def test_pruning_further_goes_on_from_what_was_recovered() -> None:
    once = planner.pruned(RUNTIME, 0.5, seed=3)
    twice = planner.pruned(once, 0.7, seed=3)
    assert twice.shaping[:2] == once.shaping
    assert twice.shaping[2:] == (PruneStructure(keep_time=0.7), Distillation(seed=3))
    assert twice.quantizing == RUNTIME.quantizing


def test_half_the_layers_are_the_first_ones_and_spare_no_others(tmp_path: Path) -> None:
    fallback = RUNTIME.model_copy(update={"steps": (Int8Static(skip=("layers.0.", "layers.2.")),)})
    recipe = planner.halved(tiny_context.context(tmp_path), fallback, seed=3)
    assert recipe.shaping == (DropLayers(keep=(0, 1)), Distillation(seed=3))
    assert recipe.quantizing == (Int8Static(skip=("layers.0.",)),)


def test_training_free_moves_keep_the_precision_at_the_end(tmp_path: Path) -> None:
    moves = planner.training_free(tiny_context.context(tmp_path), RUNTIME)
    assert all(move.steps[-1] == Int8Static() for move in moves)
    assert any(isinstance(move.steps[0], DropLayers) for move in moves)


def test_another_quantization_changes_nothing_else() -> None:
    found = planner.quantized_otherwise(RUNTIME)
    assert [m.steps[0].calibrator for m in found] == ["percentile", "minmax"]
    assert planner.quantized_otherwise(Recipe(engine=OnnxRuntimeEngine())) == []


def test_a_cascade_is_a_recipe_of_two_and_survives_yaml(tmp_path: Path) -> None:
    small = planner.tiny(RUNTIME, seed=1)
    both = planner.cascade(small, RUNTIME, 0.5)
    assert both.stages == (CascadeStage(answers=0.5, steps=small.steps, engine=small.engine),)
    assert both.each_stage == (small, RUNTIME)
    assert both.key != RUNTIME.key
    assert "50%" in both.title
    path = tmp_path / "recipe.yaml"
    path.write_text(both.to_yaml(), encoding="utf-8")
    assert read_recipe(path) == both


def test_a_cascade_has_at_most_three_stages(tmp_path: Path) -> None:
    small, middle = planner.tiny(RUNTIME, seed=1), planner.pruned(RUNTIME, 0.5, 1)
    three = planner.cascade(small, planner.cascade(middle, RUNTIME, 0.6), 0.5)
    assert three.each_stage == (small, middle, RUNTIME)
    path = tmp_path / "recipe.yaml"
    path.write_text(three.to_yaml(), encoding="utf-8")
    assert read_recipe(path) == three
    older = three.model_dump(mode="json") | {"first": None}
    path.write_text(yaml.safe_dump(older), encoding="utf-8")
    assert read_recipe(path) == three
    path.write_text(yaml.safe_dump(older | {"first": {"answers": 0.5}}), encoding="utf-8")
    with pytest.raises(RecipeError, match="`first` became `stages`"):
        read_recipe(path)
    four = three.model_dump(mode="json")
    four["stages"].append(four["stages"][0])
    path.write_text(yaml.safe_dump(four), encoding="utf-8")
    with pytest.raises(RecipeError, match="stages"):
        read_recipe(path)


def test_compiling_takes_long_and_is_tried_where_it_is_asked_for() -> None:
    assert planner.tried_unasked(("torch", "torch-compile", "native")) == ("torch", "native")


def test_engines_that_are_not_there_are_refused_by_name() -> None:
    with pytest.raises(EngineUnavailable, match="there is no engine abacus; engines here: "):
        planner.usable_engines(probe(), ["abacus"])
