"""Our encoder computes what transformers computes, and keeps doing so saved, cut and lowered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray

from miaotui.engines.base import Session, feeds
from miaotui.engines.layouts import Batch, Packed, Padded
from miaotui.engines.onnx_graph import lower
from miaotui.errors import ModelError
from miaotui.models.encoder import Dropout, Encoder, Factorized
from miaotui.models.load import find_model, load_model, save_model
from miaotui.models.model import Model, copy_of, linears
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.models.shape import EncoderShape, LayerShape, shape_from_json, shape_to_json
from tiny import ADAPTED, LAST_TOKEN, TYPED, UNKNOWN, hf_logits, random_rows, save_tiny, tiny_model

LENGTHS = (7, 1, 23, 40, 2, 23, 96)
INPUTS = ("ids", "positions", "segments", "types", "readout")


def run(module: Encoder, lengths: tuple[int, ...] = LENGTHS, pairs: bool = False) -> ndarray:
    """Logits of random rows, padded by threes: [rows, labels]."""

    def runner(batch: Batch) -> ndarray:
        with torch.inference_mode():
            return module(*(torch.from_numpy(a) for a in feeds(batch, INPUTS).values())).numpy()

    return Session(runner, Padded(batch=3)).run(random_rows(lengths, pairs)).values


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("family", ADAPTED)
def test_logits_are_those_of_transformers(family: str, pairs: bool, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path, labels=3)
    expected = hf_logits(tmp_path, random_rows(LENGTHS, pairs), types=family in TYPED)

    assert model.has_adapter
    np.testing.assert_allclose(run(model.encoder, pairs=pairs), expected, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations_are_those_of_transformers(activation: str, tmp_path: Path) -> None:
    model = tiny_model("bert", tmp_path, hidden_act=activation)

    expected = hf_logits(tmp_path, random_rows(LENGTHS), types=True)

    np.testing.assert_allclose(run(model.encoder), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "config"),
    [(UNKNOWN, {}), ("bert", {"is_decoder": True}), ("bert", {"hidden_act": "silu"})],
    ids=["unknown family", "causal", "unknown activation"],
)
def test_what_an_adapter_would_get_wrong_has_none(
    family: str, config: dict[str, object], tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path, **config)

    assert not model.has_adapter
    with pytest.raises(ModelError, match="has no adapter"):
        _ = model.encoder


@pytest.mark.parametrize("family", ADAPTED)
def test_a_saved_model_is_itself_bit_for_bit(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf")

    save_model(model, tmp_path / "ours")
    loaded = load_model(find_model(str(tmp_path / "ours")))

    assert loaded.encoder.shape == model.encoder.shape
    assert loaded.family == model.family
    assert loaded.task.labels == model.task.labels
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], tensor), name
    assert np.array_equal(run(loaded.encoder), run(model.encoder))


@pytest.mark.parametrize("family", [UNKNOWN, LAST_TOKEN])
def test_a_family_without_adapter_is_saved_too(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf", labels=3)

    save_model(model, tmp_path / "ours")
    loaded = load_model(find_model(str(tmp_path / "ours")))

    assert not loaded.has_adapter
    assert loaded.task.labels == model.task.labels
    assert loaded.task.max_tokens == model.task.max_tokens
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name


CUTS = {
    "no heads": (LayerShape(0, 48), LayerShape(4, 48)),
    "no ffn": (LayerShape(4, 0), LayerShape(4, 48)),
    "nothing but biases": (LayerShape(0, 0), LayerShape(0, 0)),
    "last without heads": (LayerShape(4, 48), LayerShape(0, 48)),
    "non-uniform": (LayerShape(1, 7), LayerShape(3, 20)),
    "low rank": (LayerShape(4, 48, {"query": 3, "up": 5}), LayerShape(4, 48, {"down": 2})),
    "one layer": (LayerShape(4, 48),),
    "no layers": (),
}


@pytest.mark.parametrize("layers", CUTS.values(), ids=CUTS)
def test_free_shapes_save_load_and_lower(layers: tuple[LayerShape, ...], tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "hf")
    model = base.with_module(random_encoder(replace(base.encoder.shape, layers=layers)))

    save_model(model, tmp_path / "cut")
    loaded = load_model(find_model(str(tmp_path / "cut")))

    expected = run(model.encoder)
    assert np.array_equal(run(loaded.encoder), expected)
    np.testing.assert_allclose(run_lowered(loaded.encoder), expected, atol=1e-5)


def random_encoder(shape: EncoderShape) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(shape).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def run_lowered(encoder: Encoder) -> ndarray:
    """Logits of the ONNX form in ONNX Runtime, packed."""
    import onnxruntime

    proto = lower(encoder, Precision()).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    layout = Packed(batch=2, block_tokens=48, block_rows=4)
    return (
        Session(lambda b: session.run(None, feeds(b, names))[0], layout)
        .run(random_rows(LENGTHS))
        .values
    )


def test_a_family_with_one_type_ignores_the_types_of_a_pair(tmp_path: Path) -> None:
    encoder = tiny_model("roberta", tmp_path).encoder

    assert np.array_equal(run(encoder, pairs=True), run(encoder, pairs=False))


def test_states_are_those_of_the_readout_tokens_after_each_layer(tmp_path: Path) -> None:
    encoder = tiny_model("bert", tmp_path).encoder
    batch = next(Packed(batch=1, block_tokens=48, block_rows=4).batches(random_rows((9, 20))))
    inputs = [torch.from_numpy(a) for a in feeds(batch, INPUTS).values()]

    with torch.inference_mode():
        states = encoder.states(*inputs)
        logits = encoder(*inputs)
        read = encoder.head(states[-1])

    assert [tuple(s.shape) for s in states] == [(1, 4, 32)] * 3
    assert torch.equal(read, logits)


@pytest.mark.parametrize("family", ADAPTED)
def test_training_without_dropout_has_the_logits_and_gradients_of_inference(
    family: str, tmp_path: Path
) -> None:
    encoder = tiny_model(family, tmp_path, hidden_dropout_prob=0.0, dropout=0.0).encoder
    found = []
    for training in (False, True):
        encoder.train(training).zero_grad()
        batch = next(iter(Padded(batch=7).batches(random_rows(LENGTHS))))
        logits = encoder(*(torch.from_numpy(a) for a in feeds(batch, INPUTS).values()))
        logits.square().sum().backward()
        grads = [p.grad for p in encoder.parameters() if p.grad is not None]
        found.append((logits.detach(), *grads))

    for inferred, trained in zip(*found, strict=True):
        torch.testing.assert_close(trained, inferred, atol=3e-4, rtol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    dropout = Dropout(share)
    ones = torch.ones(3, 5, 20011, requires_grad=True)

    torch.manual_seed(0)
    found = dropout(ones)
    found.sum().backward()
    torch.manual_seed(0)

    assert torch.equal(dropout(ones), found)
    assert not torch.equal(dropout(ones), found)
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(found.detach().mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(ones.grad, found.detach())  # type: ignore[arg-type]
    together = (found == 0).reshape(-1)[:-8].float()
    for byte in range(1, 8):  # eight values share a draw and must not share their fate
        both = together * (found == 0).reshape(-1)[byte : len(together) + byte].float()
        assert float(both.mean()) == pytest.approx(share**2, abs=0.005)
    assert dropout.eval()(ones) is ones


def test_dropout_of_zero_stays_zero(tmp_path: Path) -> None:
    assert tiny_model("bert", tmp_path, hidden_dropout_prob=0.0).encoder.shape.dropout == 0.0


def test_max_tokens_leaves_out_the_offset_of_positions(tmp_path: Path) -> None:
    assert tiny_model("roberta", tmp_path).encoder.shape.max_tokens == 96


def test_a_copy_shares_nothing_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    encoder = tiny_model("bert", tmp_path).encoder
    state = torch.random.get_rng_state()

    copy = copy_of(encoder)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(run(copy), run(encoder))
    with torch.no_grad():
        copy.head.classifier.weight.zero_()
    assert not np.array_equal(run(copy), run(encoder))


def test_a_low_rank_layer_is_two_linears() -> None:
    low_rank = Factorized(8, 2, 6)

    assert linears(low_rank).keys() == {"first", "second"}
    assert low_rank(torch.ones(3, 8)).shape == (3, 6)


def test_a_new_module_forgets_the_precision_of_the_old(tmp_path: Path) -> None:
    model = tiny_model("bert", tmp_path)
    quantized = replace(model, precision=Precision({"head.dense": LinearPrecision(Kind.BF16)}))

    assert isinstance(quantized, Model)
    assert quantized.with_module(model.encoder).precision == Precision()


def test_precision_defaults_to_fp32_and_falls_back_by_prefix() -> None:
    int8 = LinearPrecision(Kind.INT8_DYNAMIC)
    precision = Precision({"layers.0.up": int8, "layers.1.up": int8}, "minmax")

    assert precision["layers.5.up"].kind is Kind.FP32
    assert precision.without(("layers.0",)).linears.keys() == {"layers.1.up"}
    assert precision.without(("layers.0",)).calibrator == "minmax"
    assert precision.without(("layers",)).kinds == frozenset({Kind.FP32})
    mixed = precision.without(("layers.0",), Kind.BF16)
    assert mixed["layers.0.up"].kind is Kind.BF16
    assert mixed["layers.1.up"].kind is Kind.INT8_DYNAMIC


def test_a_shape_goes_through_json(tmp_path: Path) -> None:
    shape = tiny_model("electra", tmp_path).encoder.shape.with_layer(0, LayerShape(2, 9, {"up": 3}))

    assert shape_from_json(shape_to_json(shape)) == shape
    with pytest.raises(ModelError, match="not the shape of an encoder"):
        shape_from_json("{}")


def test_a_tiny_model_is_the_same_each_time(tmp_path: Path) -> None:
    first = save_tiny("bert", tmp_path / "a") / "model.safetensors"
    second = save_tiny("bert", tmp_path / "b") / "model.safetensors"

    assert first.read_bytes() == second.read_bytes()
