"""The native engine on every instruction set that this processor has: the same answers as eager,
the same bits whatever stands beside a row, and errors instead of crashes."""

import json
import platform
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray
from safetensors.numpy import load_file, save_file

import tiny_encoder
from demand import missing, need_engine
from miaotui.engines.base import RowRunner
from miaotui.engines.native import (
    HEADER_FILE,
    ISA_VARIABLE,
    TENSORS_FILE,
    NativeEngine,
    restored,
)
from miaotui.errors import BundleError, EngineFailed, EngineUnavailable
from miaotui.hardware import probe, resident_bytes
from miaotui.models.encoder import Encoder
from miaotui.models.model import Model
from miaotui.models.observe import padded
from miaotui.models.precision import Kind
from miaotui.models.shape import Activation, EncoderShape, HeadKind, LayerShape, Readout
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.techniques import BFloat16, Int8Dynamic, Int8Static
from tiny import PLAIN, TYPED, UNKNOWN, hf_logits, random_rows, tiny_model

X86_ISAS = ("amx", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2")
ISAS = (*(X86_ISAS if platform.machine() == "x86_64" else ("neon_dot",)), "portable")
LENGTHS = (7, 1, 23, 40, 2, 23, 64, 12, 17, 16, 31, 33)
ROWS = random_rows(LENGTHS)
UNEVEN = (
    LayerShape(3, 52),
    LayerShape(0, 20),
    LayerShape(1, 0),
    LayerShape(4, 7, {"query": 5, "up": 3, "down": 9, "output": 2}),
    LayerShape(2, 64),
)

PRECISIONS = (
    None,
    Int8Dynamic(),
    Int8Static(),
    Int8Static(skip=("layers.0.", "layers.3.down"), skipped_in="bf16"),
    BFloat16(),
)

Opened = Callable[..., RowRunner]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn, forced as a user would force it."""
    need_engine("native")
    import miaotui_native

    if request.param not in miaotui_native.kernels_here():
        missing(request.param, "this processor does not have it")
    monkeypatch.setenv(ISA_VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def opened(isa: str, tmp_path: Path) -> Opened:
    def build(model: Model, threads: int = 1) -> RowRunner:
        folder = tmp_path / f"engine-{threads}"
        NativeEngine().build(model, None, folder)
        return NativeEngine(threads=threads).open(folder, threads)

    return build


def random_model(shape: EncoderShape, seed: int = 0) -> Model:
    """Weights of unit-like scale, so that every part matters."""
    torch.manual_seed(seed)
    encoder = Encoder(shape)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.25)
    return replace(tiny_encoder.model(), module=encoder.eval())


def uneven(**changes: Any) -> EncoderShape:
    return replace(tiny_encoder.shape(), layers=UNEVEN, **changes)


def eager(model: Model, rows: EncodedRows) -> ndarray:
    with torch.inference_mode():
        each = [model.encoder(*padded(rows, [i]))[0, 0].numpy() for i in range(len(rows))]
    return np.stack(each)


@pytest.mark.parametrize(
    "layer",
    [LayerShape(4, 64), LayerShape(9, 24, {"key": 5, "value": 3}), LayerShape(1, 8)],
    ids=["even", "low rank", "one head"],
)
@pytest.mark.parametrize(
    ("technique", "error"), [(None, 1e-4), (Int8Dynamic(), 0.1), (BFloat16(), 0.03)]
)
def test_first_tokens_ask_the_states_of_any_number_of_rows(
    technique: Any, error: float, layer: LayerShape, opened: Opened
) -> None:
    """One layer, of which no keys and values are made; more rows than are asked at a time."""
    model = random_model(replace(tiny_encoder.shape(), layers=(layer,)))
    rows = random_rows([1 + i % 5 for i in range(50)] + [64, 33])
    expected = eager(model, rows)
    if technique is not None:
        model = technique.prepare(model, tiny_encoder.calibration())

    logits = opened(model).run(rows).values

    assert np.abs(logits - expected).max() <= error * float(np.ptp(expected, axis=0).max())
    alone = opened(model, threads=3).run(rows.select([51])).values
    assert np.array_equal(alone[0], logits[51])


@pytest.mark.parametrize("family", PLAIN)
def test_every_family_agrees_with_transformers(family: str, opened: Opened, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf", labels=3)
    rows = random_rows(LENGTHS, pairs=family in TYPED)

    logits = opened(model).run(rows).values

    expected = hf_logits(tmp_path / "hf", rows, types=True)
    np.testing.assert_allclose(logits, expected, atol=2e-4)


@pytest.mark.parametrize("activation", [a for a in Activation if a is not Activation.QUICK_GELU])
@pytest.mark.parametrize("head_kind", HeadKind)
def test_layers_of_any_shape_agree_with_eager(
    activation: Activation, head_kind: HeadKind, opened: Opened
) -> None:
    labels = 32 if head_kind is HeadKind.NONE else 2
    model = random_model(uneven(activation=activation, head_kind=head_kind, labels=labels))

    np.testing.assert_allclose(opened(model).run(ROWS).values, eager(model, ROWS), atol=2e-4)


@pytest.mark.parametrize("heads", [4, 1])
@pytest.mark.parametrize(("technique", "error"), [(None, 1e-3), (BFloat16(), 0.1)])
def test_scores_beyond_what_an_exponential_holds(
    technique: Any, error: float, heads: int, opened: Opened
) -> None:
    """A key's bias adds the same to all scores of a query, which changes no weight; here it takes
    them beyond e^88 for some queries and below e^-88 for others."""
    layers = (LayerShape(heads, 64),) * 2
    model = random_model(replace(tiny_encoder.shape(), head_dim=32 // heads, layers=layers))
    first, asked = model.encoder.layers[0], []
    hook = first.query.register_forward_hook(lambda _, __, out: asked.append(out.flatten(0, 1)))
    expected = eager(model, ROWS)
    hook.remove()
    added = 64 * torch.cat(asked).unflatten(-1, (heads, -1)).sum(-1) / first.head_dim**0.5
    assert added.min() < -120
    assert added.max() > 120
    with torch.no_grad():
        first.key.bias += 64
    if technique is not None:
        model = technique.prepare(model, tiny_encoder.calibration())

    logits = opened(model).run(ROWS).values

    assert np.abs(logits - expected).max() <= error * float(np.ptp(expected, axis=0).max())


@pytest.mark.parametrize("layers", [UNEVEN, ()])
@pytest.mark.parametrize(("readout", "head"), [(Readout.MEAN, "none"), (Readout.TOKENS, "gelu")])
def test_means_and_every_token_are_read_out(
    readout: Readout, head: str, layers: tuple[LayerShape, ...], opened: Opened
) -> None:
    labels = 32 if head == "none" else 5
    shape = uneven(readout=readout, head_kind=HeadKind(head), labels=labels)
    model = random_model(replace(shape, layers=layers))
    rows = ROWS if readout is Readout.MEAN else replace(ROWS, readouts=ROWS.readouts_or_all())
    with torch.inference_mode():
        each = [model.encoder(*padded(rows, [i]))[0].numpy() for i in range(len(rows))]
    expected = np.concatenate(each)
    assert len(expected) == (len(ROWS) if readout is Readout.MEAN else ROWS.total_tokens)

    np.testing.assert_allclose(opened(model).run(rows).values, expected, atol=2e-4)
    together = opened(model, threads=3).run(rows).values
    assert np.array_equal(together, opened(model).run(rows).values)


def test_an_embedding_of_another_width_is_refused(opened: Opened) -> None:
    with pytest.raises(BundleError, match="as many labels as hidden"):
        opened(random_model(uneven(head_kind=HeadKind.NONE, labels=3)))


@pytest.mark.parametrize(
    ("hidden", "head_dim", "embedding"), [(32, 8, 32), (40, 5, 40), (72, 16, 24), (129, 43, 129)]
)
def test_widths_that_are_no_multiple_of_a_tile(
    hidden: int, head_dim: int, embedding: int, opened: Opened
) -> None:
    shape = uneven(hidden=hidden, head_dim=head_dim, embedding=embedding, labels=5)
    model = random_model(shape)

    np.testing.assert_allclose(opened(model).run(ROWS).values, eager(model, ROWS), atol=5e-4)


@pytest.mark.parametrize(
    ("technique", "error"),
    [
        (Int8Dynamic(), 0.1),
        (Int8Static(), 0.1),
        (Int8Static(skip=("layers.1.",)), 0.1),
        (Int8Dynamic(skip=("layers.1.", "layers.4.up"), skipped_in="bf16"), 0.1),
        (BFloat16(), 0.03),
    ],
)
def test_lower_precision_stays_near_eager(technique: Any, error: float, opened: Opened) -> None:
    model = random_model(uneven())
    expected = eager(model, ROWS)

    logits = opened(technique.prepare(model, tiny_encoder.calibration())).run(ROWS).values

    assert np.abs(logits - expected).max() <= error * float(np.ptp(expected, axis=0).max())
    assert not np.array_equal(logits, opened(model).run(ROWS).values)


def test_weights_of_seven_bits_stay_near_eager(isa: str, tmp_path: Path) -> None:
    model = random_model(uneven())
    lowered = Int8Static().prepare(model, tiny_encoder.calibration())
    NativeEngine(weight_bits=7).build(lowered, None, tmp_path)
    saved = load_file(tmp_path / TENSORS_FILE)
    codes = [tensor for tensor in saved.values() if tensor.dtype == np.int8]
    assert {int(np.abs(each).max()) for each in codes} == {63}

    logits = NativeEngine().open(tmp_path, 1).run(ROWS).values

    expected = eager(model, ROWS)
    assert np.abs(logits - expected).max() <= 0.15 * float(np.ptp(expected, axis=0).max())
    alone = NativeEngine().open(tmp_path, 3).run(ROWS.select([6])).values
    assert np.array_equal(alone[0], logits[6])


def test_bf16_is_torchs_own_rounding(opened: Opened, tmp_path: Path) -> None:
    model = BFloat16().prepare(random_model(uneven()), tiny_encoder.calibration())
    opened(model)

    encoder, _ = restored(tmp_path / "engine-1")

    layer, original = encoder.layers[0], model.encoder.layers[0]
    assert torch.equal(layer.up.weight, original.up.weight.bfloat16().float())
    assert torch.equal(encoder.head.dense.weight, model.encoder.head.dense.weight)


@pytest.mark.parametrize("skipped_in", ["fp32", "bf16"])
@pytest.mark.parametrize("technique", [Int8Dynamic, Int8Static])
def test_a_layer_with_outliers_is_cured_by_putting_it_back_in_float(
    technique: Any, skipped_in: str, opened: Opened
) -> None:
    """One neuron is a thousand times too large and is read with a thousandth of the weight, which
    changes no answer; but what shares its scale is rounded away."""
    model = random_model(replace(tiny_encoder.shape(), activation=Activation.RELU))
    layer = model.encoder.layers[1]
    with torch.no_grad():
        layer.up.weight[5] *= 1000
        layer.up.bias[5] = 4000
        layer.down.weight[:, 5] /= 1000
    expected = eager(model, ROWS)

    def error(skip: tuple[str, ...]) -> float:
        int8 = technique(skip=skip, skipped_in=skipped_in).prepare(
            model, tiny_encoder.calibration()
        )
        return float(np.abs(opened(int8).run(ROWS).values - expected).max())

    spread = float(np.ptp(expected, axis=0).max())
    assert error(("layers.1.",)) <= 0.1 * spread
    assert error(()) > 3 * error(("layers.1.",))


def test_memory_does_not_grow_with_rows(opened: Opened) -> None:
    session = opened(random_model(uneven()), 2)
    many = random_rows(LENGTHS * 100, seed=5)
    for _ in range(10):
        session.run(many)
    before = resident_bytes()
    for _ in range(50):
        session.run(many)
    assert resident_bytes() - before < 4_000_000


@pytest.mark.parametrize("technique", PRECISIONS)
def test_a_row_has_the_same_bits_whatever_stands_beside_it(technique: Any, opened: Opened) -> None:
    model = random_model(uneven())
    if technique is not None:
        model = technique.prepare(model, tiny_encoder.calibration())
    many = random_rows((LENGTHS * 20)[:200], seed=3)
    alone = opened(model)
    expected = np.concatenate([alone.run(many.select([i])).values for i in range(len(many))])

    for threads in (1, 2, 64):
        session = opened(model, threads)
        assert np.array_equal(session.run(many).values, expected)
        assert np.array_equal(session.run(many.select([6])).values, expected[6:7])
        backwards = np.arange(len(many))[::-1]
        assert np.array_equal(session.run(many.select(backwards)).values, expected[::-1])


@pytest.mark.parametrize("technique", [Int8Static(), BFloat16()])
def test_paths_agree_with_each_other(
    technique: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_engine("native")
    import miaotui_native

    model = technique.prepare(random_model(uneven()), tiny_encoder.calibration())
    NativeEngine().build(model, None, tmp_path)
    found, names = [], miaotui_native.kernels_here()
    for name in names:
        monkeypatch.setenv(ISA_VARIABLE, name)
        found.append(NativeEngine().open(tmp_path, 1).run(ROWS).values)

    spread = float(np.ptp(found[0], axis=0).max())
    halves = [name in ("amx", "avx512_bf16") for name in names]  # attention is in bf16
    for other, half in zip(found[1:], halves[1:], strict=True):
        share = 0.02 if half == halves[0] else 0.05  # a code on the edge may round the other way
        assert np.abs(other - found[0]).max() <= share * spread


@pytest.mark.parametrize("technique", PRECISIONS)
def test_what_was_built_can_be_restored_and_lowered_elsewhere(
    technique: Any, opened: Opened, tmp_path: Path
) -> None:
    model = random_model(uneven())
    if technique is not None:
        model = technique.prepare(model, tiny_encoder.calibration())
    logits = opened(model).run(ROWS).values

    encoder, precision = restored(tmp_path / "engine-1")

    inside = {n: p for n, p in precision.items() if p.kind is not Kind.FP32}
    assert inside == {n: p for n, p in model.precision.items() if n.startswith("layers.")}
    again = opened(replace(model, module=encoder), threads=2).run(ROWS).values
    np.testing.assert_allclose(again, logits, atol=1e-4)  # scales may differ in their last bit


def test_rows_of_several_calls_are_answered_as_of_one(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(random_model(uneven()), 2)
    together = session.run(ROWS).values
    for tokens, rows in ((1, 9), (30, 9), (60, 2), (10_000, 5)):
        monkeypatch.setattr("miaotui.engines.native._TOKENS_A_CALL", tokens)
        monkeypatch.setattr("miaotui.engines.native._ROWS_A_CALL", rows)
        assert np.array_equal(session.run(ROWS).values, together)


def test_many_callers_at_once_get_their_own_answers(opened: Opened) -> None:
    session = opened(random_model(uneven()), 2)
    parts = [random_rows(LENGTHS, seed=seed) for seed in range(8)]
    expected = [session.run(part).values for part in parts]
    found: list[list[bool]] = [[] for _ in parts]

    def call(i: int) -> None:
        for _ in range(20):
            found[i].append(np.array_equal(session.run(parts[i]).values, expected[i]))

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[True] * 20] * len(parts)


def test_the_longest_row_and_the_empty_one(opened: Opened) -> None:
    model = random_model(uneven())
    session = opened(model)
    longest = model.encoder.shape.max_tokens

    both = session.run(encoded_rows([[5] * longest, []])).values

    np.testing.assert_allclose(both[:1], eager(model, encoded_rows([[5] * longest])), atol=2e-4)
    np.testing.assert_array_equal(both[1:], session.run(encoded_rows([[0]])).values)
    assert session.run(encoded_rows([])).values.shape == (0, 0)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (encoded_rows([[5] * 65]), "row 0 has 65 tokens; expected 0 to 64"),
        (encoded_rows([[5], [tiny_encoder.VOCAB]]), "token id 64 is outside the vocabulary"),
        (encoded_rows([[-1]]), "token id -1 is outside"),
        (encoded_rows([[5, 6]], [[0, 2]]), "type id 2 is outside 0 to 1"),
        (
            EncodedRows(np.zeros(3, np.int32), np.array([0, 5, 3])),
            "row 1 has -2 tokens",
        ),
        (EncodedRows(np.zeros(3, np.int32), np.array([0, 9])), "do not fit"),
    ],
)
def test_rows_it_cannot_read_are_refused(rows: EncodedRows, reason: str, opened: Opened) -> None:
    session = opened(random_model(uneven()))

    with pytest.raises(EngineFailed, match=reason):
        session.run(rows)
    assert session.run(ROWS).values.shape == (len(ROWS), 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h | {"format": 2}, "format"),
        (lambda h: h | {"extra": 1}, "extra"),
        (lambda h: h["shape"].update(hidden=33) or h, "no tensor embeddings.projection.weight"),
        (lambda h: h["shape"].update(hidden=33, embedding=33) or h, "need a projection"),
        (lambda h: h["shape"].update(hidden=-32, embedding=-32) or h, "hidden is -32"),
        (lambda h: h["shape"].update(head_dim=1 << 30) or h, "head_dim"),
        (lambda h: h["shape"].update(labels=0) or h, "labels"),
        (lambda h: h["shape"].update(position_offset=64) or h, "positions"),
        (lambda h: h["shape"]["layers"][0].update(heads=4) or h, "expected"),
        (lambda h: h["shape"]["layers"][0].update(heads=1 << 40) or h, "cannot be opened"),
        (lambda h: h["shape"]["layers"][0].update(ffn=51) or h, "expected"),
        (lambda h: h["shape"]["layers"].append({"heads": 1, "ffn": 1}) or h, "layers.5"),
    ],
)
def test_a_header_that_lies_is_a_bundle_error(
    change: Callable[[Any], Any], reason: str, isa: str, tmp_path: Path
) -> None:
    NativeEngine().build(random_model(uneven()), None, tmp_path)
    header = json.loads((tmp_path / HEADER_FILE).read_text())
    (tmp_path / HEADER_FILE).write_text(json.dumps(change(header)))

    with pytest.raises(BundleError, match=reason):
        NativeEngine().open(tmp_path, 1)


def opening_fails(folder: Path) -> str | None:
    """What is wrong with a bundle, or None where it opens and answers."""
    try:
        NativeEngine().open(folder, 1).run(ROWS)
    except BundleError as error:
        return str(error)
    return None


def test_damaged_tensors_are_a_bundle_error(isa: str, tmp_path: Path) -> None:
    NativeEngine().build(random_model(uneven()), None, tmp_path)
    whole = (tmp_path / TENSORS_FILE).read_bytes()
    draw = np.random.default_rng(0)
    spoilt = [whole[:7], whole[: len(whole) // 2], b"\xff" * 64, whole[:200] + b"x" + whole[201:]]
    for _ in range(40):  # a changed byte of the JSON that says where tensors lie
        place = int(draw.integers(8, 2000))
        spoilt.append(whole[:place] + bytes([int(draw.integers(256))]) + whole[place + 1 :])
    for data in spoilt:
        (tmp_path / TENSORS_FILE).write_bytes(data)
        refused = opening_fails(tmp_path)
        assert refused is None or "\n" not in refused


def test_words_are_read_where_they_lie_on_disk(isa: str, tmp_path: Path) -> None:
    """A process holds the rows of the table that it has looked at; a table of halves is none."""
    large = random_model(uneven(vocab=300_000))
    table = large.encoder.embeddings.words.weight
    NativeEngine().build(large, None, tmp_path)
    before = resident_bytes()

    opened = NativeEngine().open(tmp_path, 1)
    found = opened.run(ROWS).values

    assert resident_bytes() - before < table.nbytes / 4
    np.testing.assert_allclose(found, eager(large, ROWS), atol=2e-4)
    tensors = load_file(tmp_path / TENSORS_FILE)
    tensors["embeddings.words.weight"] = tensors["embeddings.words.weight"].astype(np.float16)
    save_file(tensors, tmp_path / TENSORS_FILE)
    refused = opening_fails(tmp_path)
    assert refused is not None
    assert "no table of float32" in refused


def test_kernels_that_the_processor_lacks_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_engine("native")
    NativeEngine().build(random_model(uneven()), None, tmp_path)
    monkeypatch.setenv(ISA_VARIABLE, "sse9")

    with pytest.raises(EngineUnavailable, match="no kernels for sse9 run on this processor; here"):
        NativeEngine().open(tmp_path, 1)


def test_kernels_of_another_version_are_refused_in_one_line() -> None:
    here = probe()
    older = replace(here, versions={**here.versions, "miaotui-native": "0.1.0"})

    reason = NativeEngine.unavailable(older)

    assert reason is not None
    assert "0.1.0" in reason
    assert "make setup" in reason
    assert "\n" not in reason


def test_a_family_without_adapter_is_refused_by_name(tmp_path: Path) -> None:
    need_engine("native")

    with pytest.raises(EngineUnavailable, match=f"native: {UNKNOWN} has no adapter"):
        NativeEngine().build(tiny_model(UNKNOWN, tmp_path / "hf"), None, tmp_path / "engine")
