"""Pruned models: what is removed, what is refitted, and that engines run what is left."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy import ndarray
from torch import Tensor

import tiny_encoder
from miaotui.engines.base import Session, feeds
from miaotui.engines.layouts import LayoutBase, Packed, Padded
from miaotui.engines.onnx_graph import lower
from miaotui.errors import DataError, RecipeError
from miaotui.models.correction import refit
from miaotui.models.encoder import BiasOnly
from miaotui.models.importance import activation_importance, fisher_importance
from miaotui.models.latency_table import LatencyTable, arithmetic_table
from miaotui.models.load import find_model, load_model, save_model
from miaotui.models.loss import LOSSES
from miaotui.models.model import Calibration, Model, copy_of
from miaotui.models.precision import Precision
from miaotui.models.shape import LayerShape
from miaotui.models.surgery import keep_heads_and_neurons, keep_layers
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.techniques import LowRank, PruneStructure
from miaotui.techniques.int8_static import Int8Static

ALL_HEADS, ALL_NEURONS = torch.arange(4), torch.arange(64)
NONE = torch.arange(0)


@pytest.fixture
def model() -> Model:
    return tiny_encoder.model(layers=3)


def run_lowered(model: Model, layout: LayoutBase) -> ndarray:
    import onnxruntime

    proto = lower(model.encoder, Precision()).SerializeToString()
    runtime = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in runtime.get_inputs()]
    session = Session(lambda b: runtime.run(None, feeds(b, names))[0], layout)
    return session.run(tiny_encoder.rows(20, seed=4)).values


@pytest.mark.parametrize(
    "layout",
    [Padded(batch=3), Packed(batch=2, block_tokens=32, block_rows=4)],
    ids=lambda layout: layout.kind,
)
@pytest.mark.parametrize("keep_time", [0.5, 0.1])
def test_an_engine_answers_as_the_pruned_model(
    keep_time: float, layout: LayoutBase, model: Model
) -> None:
    keeps = keep_time > 0.2
    technique = PruneStructure(keep_time=keep_time, round_neurons_to=8, keep_blocks=keeps)
    done = technique.prepare(model, tiny_encoder.calibration())
    shapes = done.encoder.shape.layers
    expected = tiny_encoder.logits(done, tiny_encoder.rows(20, seed=4))

    assert any(shape != shapes[0] for shape in shapes), (
        "the layers should differ for this test to mean something"
    )
    np.testing.assert_allclose(run_lowered(done, layout), expected, atol=1e-4)


@pytest.mark.parametrize("keep_time", [0.9, 0.5, 0.2])
def test_the_pruned_model_fits_the_time(keep_time: float, model: Model) -> None:
    table = arithmetic_table(model.encoder.shape)
    calibration = replace(tiny_encoder.calibration(), latency=table)
    done = PruneStructure(keep_time=keep_time, round_neurons_to=8).prepare(model, calibration)

    assert table.predict(done.encoder.shape) <= keep_time * table.predict(model.encoder.shape)


def test_a_time_that_cannot_be_reached_is_refused(model: Model) -> None:
    slow_when_empty = {0: 1.0, 64: 2.0}
    table = LatencyTable(*[slow_when_empty] * 4, fixed_ms=3.0)
    calibration = replace(tiny_encoder.calibration(), latency=table)

    with pytest.raises(RecipeError, match=r"keep_time 0\.3 cannot be reached"):
        PruneStructure(keep_time=0.3).prepare(model, calibration)


@pytest.mark.parametrize(
    "technique",
    [
        PruneStructure(keep_time=0.5),
        PruneStructure(keep_time=0.5, importance="activation", correct=False),
        LowRank(ratio=0.5),
        Int8Static(),
    ],
    ids=str,
)
def test_no_rows_to_look_at_is_a_data_error(
    technique: PruneStructure | LowRank | Int8Static, model: Model
) -> None:
    with pytest.raises(DataError, match=f"{technique.name}: there are no calibration rows"):
        technique.prepare(model, tiny_encoder.calibration().first(0))


def test_a_planted_useless_head_and_its_neurons_are_the_ones_removed(model: Model) -> None:
    layer = model.encoder.get_submodule("layers.0")
    with torch.no_grad():
        layer.output.weight[:, 8:16] = 0  # type: ignore[union-attr, index]
        layer.down.weight[:, 24:56] = 0  # type: ignore[union-attr, index]
    before = tiny_encoder.logits(model, tiny_encoder.rows(12))
    table = LatencyTable({0: 0.0, 4: 4.0}, {0: 0.0, 64: 8.0}, {0: 0.0}, {0: 0.0}, 0.0)
    # Two full layers cost 24: the planted head and half of a network are worth 1 and 4.
    technique = PruneStructure(keep_time=19 / 24, round_neurons_to=8, correct=False)
    calibration = replace(tiny_encoder.calibration(), latency=table)
    done = technique.prepare(model, calibration)

    assert done.encoder.shape.layers[0] == LayerShape(3, 32)
    assert done.encoder.shape.layers[1:] == model.encoder.shape.layers[1:]
    np.testing.assert_allclose(tiny_encoder.logits(done, tiny_encoder.rows(12)), before, atol=1e-5)


def test_a_layer_without_heads_or_neurons_keeps_their_biases(model: Model) -> None:
    smaller = keep_heads_and_neurons(
        model.encoder, [ALL_HEADS, NONE, ALL_HEADS], [ALL_NEURONS, ALL_NEURONS, NONE]
    )
    before = model.encoder.state_dict()
    for name in ("layers.1.output", "layers.2.down"):
        left = smaller.get_submodule(name)
        assert isinstance(left, BiasOnly)
        assert torch.equal(left.bias, before[f"{name}.bias"])


def test_removed_is_the_same_as_zeroed(model: Model) -> None:
    kept = torch.tensor([0, 3])
    smaller = keep_heads_and_neurons(
        model.encoder, [ALL_HEADS, kept, kept], [torch.arange(5, 60), ALL_NEURONS, NONE]
    )
    zeroed = copy_of(model.encoder)
    with torch.no_grad():
        for index in (1, 2):
            output = zeroed.get_submodule(f"layers.{index}.output")
            output.weight[:, 8:24] = 0  # type: ignore[union-attr, index]
        down = zeroed.get_submodule("layers.0.down").weight
        down[:, :5], down[:, 60:] = 0, 0  # type: ignore[index]
        zeroed.get_submodule("layers.2.down").weight.zero_()  # type: ignore[operator, union-attr]
    rows = tiny_encoder.rows(12)
    answers = [tiny_encoder.logits(model.with_module(e), rows) for e in (smaller, zeroed)]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_kept_layers_are_those_of_a_hand_built_encoder(model: Model) -> None:
    one, three = keep_layers(model.encoder, [2]), keep_layers(model.encoder, [0, 1, 2])
    rows = tiny_encoder.rows(12)
    by_hand = copy_of(model.encoder)
    by_hand.layers = torch.nn.ModuleList([by_hand.layers[2]])

    assert one.shape.layers == model.encoder.shape.layers[2:]
    np.testing.assert_array_equal(
        tiny_encoder.logits(model.with_module(one), rows),
        tiny_encoder.logits(model.with_module(by_hand), rows),
    )
    np.testing.assert_array_equal(
        tiny_encoder.logits(model.with_module(three), rows), tiny_encoder.logits(model, rows)
    )


def test_surgery_leaves_the_random_state_alone(model: Model) -> None:
    before = torch.get_rng_state()
    keep_layers(model.encoder, [0])
    keep_heads_and_neurons(model.encoder, [ALL_HEADS] * 3, [ALL_NEURONS] * 3)
    LowRank(ratio=0.5).prepare(model, tiny_encoder.calibration())
    assert torch.equal(torch.get_rng_state(), before)


def test_refitting_comes_closer_than_cutting() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 3) @ torch.randn(3, 10) + 0.3 * torch.randn(400, 10) + 1.0
    weight, kept = torch.randn(6, 10), torch.tensor([0, 2, 3, 7])
    wide = torch.cat([inputs, torch.ones(400, 1)], dim=1).double()
    refitted, bias = refit(weight, wide.T @ wide / 400, kept)
    wanted = inputs @ weight.T

    def error(w: Tensor, b: Tensor | float) -> float:
        return float(((inputs[:, kept] @ w.T + b - wanted) ** 2).mean())

    assert error(refitted, bias) < 0.3 * error(weight[:, kept], 0.0)


def test_fisher_is_the_squared_gradient_of_a_gate_row_by_row(model: Model) -> None:
    calibration = tiny_encoder.calibration(rows=5)
    found = fisher_importance(model.encoder, calibration, model.task.loss)
    head, neuron = slow_fisher(model, calibration, head=2, neuron=11)

    assert float(found.heads[1][2]) == pytest.approx(head, rel=1e-3)
    assert float(found.neurons[1][11]) == pytest.approx(neuron, rel=1e-3)


def slow_fisher(
    model: Model, calibration: Calibration, head: int, neuron: int
) -> tuple[float, float]:
    """Of layer 1, by finite differences of a gate's effect on the loss of each row, in float64."""

    def losses(output: float, down: float) -> Tensor:
        encoder = copy_of(model.encoder).double()
        layer = encoder.get_submodule("layers.1")
        with torch.no_grad():
            layer.output.weight[:, 8 * head : 8 * head + 8] *= output  # type: ignore[union-attr, index, operator]
            layer.down.weight[:, neuron] *= down  # type: ignore[union-attr, index, operator]
        logits = tiny_encoder.logits(model.with_module(encoder), calibration.rows)
        targets = torch.from_numpy(calibration.targets.values)
        return LOSSES[model.task.loss].hard(torch.from_numpy(logits), targets)

    step = 1e-5
    by_head = (losses(1 + step, 1) - losses(1 - step, 1)) / (2 * step)
    by_neuron = (losses(1, 1 + step) - losses(1, 1 - step)) / (2 * step)
    return float((by_head**2).mean()), float((by_neuron**2).mean())


@pytest.mark.parametrize("problem", Problem)
@pytest.mark.parametrize("score", [fisher_importance, activation_importance])
def test_every_problem_has_an_importance(score: object, problem: Problem) -> None:
    labels = 1 if problem is Problem.REGRESSION else 3
    model = tiny_encoder.model(problem=problem, labels=labels)
    draw = np.random.default_rng(0)
    targets = {
        Problem.SINGLE_LABEL: draw.integers(0, 3, 16),
        Problem.MULTI_LABEL: draw.integers(0, 2, (16, 3)).astype(np.float32),
        Problem.REGRESSION: draw.normal(size=16).astype(np.float32),
    }
    calibration = Calibration(tiny_encoder.rows(16), one_a_row(targets[problem]))
    found = score(model.encoder, calibration, model.task.loss)  # type: ignore[operator]

    for values in itertools.chain(found.heads, found.neurons):
        assert torch.isfinite(values).all()
        assert (values > 0).any()


def test_a_model_pruned_to_nothing_still_answers(model: Model, tmp_path: object) -> None:
    calibration = tiny_encoder.calibration()
    done = PruneStructure(keep_time=1e-6, keep_blocks=False).prepare(model, calibration)
    rows = tiny_encoder.rows(12)

    assert done.encoder.shape.layers == (LayerShape(0, 0),) * 3
    save_model(done, tmp_path / "empty")  # type: ignore[operator]
    loaded = load_model(find_model(str(tmp_path / "empty")))  # type: ignore[operator]
    np.testing.assert_allclose(
        tiny_encoder.logits(loaded, rows), tiny_encoder.logits(done, rows), atol=1e-6
    )
    with pytest.raises(RecipeError, match=r"no linear layers\.0\.up; all were removed"):
        LowRank(ranks={"layers.0.up": 2}).prepare(done, calibration)


def test_no_layer_loses_all_its_heads_or_neurons(model: Model) -> None:
    """The latency table makes a whole block look cheap to lose; it is kept all the same."""
    calibration = replace(
        tiny_encoder.calibration(),
        latency=LatencyTable(
            heads={0: 0.0, 1: 9.0, 4: 10.0},
            ffn={0: 0.0, 8: 9.0, 64: 10.0},
            last_heads={0: 0.0, 1: 9.0, 4: 10.0},
            last_ffn={0: 0.0, 8: 9.0, 64: 10.0},
            fixed_ms=1.0,
        ),
    )
    done = PruneStructure(keep_time=0.92, round_neurons_to=8).prepare(model, calibration)
    assert all(layer.heads >= 1 and layer.ffn >= 8 for layer in done.encoder.shape.layers)
    emptied = PruneStructure(keep_time=0.5, round_neurons_to=8, keep_blocks=False)
    shapes = emptied.prepare(model, calibration).encoder.shape.layers
    assert any(layer.heads == 0 or layer.ffn == 0 for layer in shapes)
    with pytest.raises(RecipeError, match="the least that layers keep takes 0.90 of the time"):
        PruneStructure(keep_time=0.5, round_neurons_to=8).prepare(model, calibration)
