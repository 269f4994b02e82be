"""Every family on every engine that runs it: whole and pruned, float and int8, packed and not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray

from demand import need_engine
from miaotui.engines import ENGINES
from miaotui.engines.base import Session
from miaotui.engines.layouts import Bucketed, Layout, Packed, Padded
from miaotui.engines.native import NativeEngine
from miaotui.errors import EngineUnavailable
from miaotui.models.model import Calibration, Model
from miaotui.models.observe import padded, read
from miaotui.models.shape import Readout
from miaotui.models.surgery import keep_heads_and_neurons
from miaotui.tasks.base import EncodedRows, joined
from miaotui.tasks.outputs import one_a_row
from miaotui.techniques import TECHNIQUES
from tiny import ADAPTED, FFN, HEADS, PLAIN, TYPED, hf_logits, random_rows, tiny_model

ROWS = random_rows([7, 1, 23, 40, 2, 31, 96, 12], pairs=True)
LAYOUTS: dict[str, Layout] = {
    "padded": Padded(batch=3),
    "bucketed": Bucketed(batch=4, edges=(8, 24, 48)),
    "packed": Packed(batch=2, block_tokens=48, block_rows=4),
}
BATCHED = ("torch", "onnxruntime", "openvino")
OWN = tuple(family for family in ADAPTED if family not in PLAIN)
each_family = pytest.mark.parametrize("family", ADAPTED)
each_batched = pytest.mark.parametrize("name", BATCHED)


def pruned(model: Model) -> Model:
    """Without two heads of the first layer, half the neurons of the last, all heads of the last."""
    heads = [torch.tensor([3, 1]), torch.tensor([], dtype=torch.long)]
    neurons = [torch.arange(FFN), torch.arange(0, FFN, 2)]
    return model.with_module(keep_heads_and_neurons(model.encoder, heads, neurons))


def layout_of(name: str, family: str) -> Layout:
    """Packed, where the engine can pack the family."""
    return LAYOUTS["bucketed" if (name, family) == ("openvino", "modernbert") else "packed"]


def torch_logits(model: Model, rows: EncodedRows = ROWS) -> ndarray:
    with torch.inference_mode():
        found = model.encoder(*padded(rows, list(range(len(rows)))))
    return found[read(rows)].numpy()  # type: ignore[no-any-return]


def calibration() -> Calibration:
    rows = random_rows([int(n) for n in np.random.default_rng(0).integers(3, 40, 24)])
    return Calibration(rows, one_a_row(np.arange(24) % 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", [*OWN, "albert"])
@each_batched
def test_a_family_is_answered_as_transformers_does(
    name: str, family: str, layout: str, tmp_path: Path
) -> None:
    need_engine(name)
    model = tiny_model(family, tmp_path / "hf")
    if (name, family, layout) == ("openvino", "modernbert", "packed"):
        with pytest.raises(EngineUnavailable, match="modernbert cannot be packed; use the bucket"):
            ENGINES[name](layout=LAYOUTS[layout]).build(model, None, tmp_path / "engine")
        return
    ENGINES[name](layout=LAYOUTS[layout]).build(model, None, tmp_path / "engine")

    opened = ENGINES[name](layout=LAYOUTS[layout]).open(tmp_path / "engine", 1)

    expected = hf_logits(tmp_path / "hf", ROWS, types=family in TYPED)
    np.testing.assert_allclose(opened.run(ROWS).values, expected, atol=1e-4, rtol=1e-4)
    one = opened.run(ROWS.select([2])).values
    np.testing.assert_allclose(one, expected[2:3], atol=1e-4, rtol=1e-4)
    opened.close()


@pytest.mark.parametrize("family", [*OWN, "albert"])
@each_batched
def test_a_pruned_family_is_answered_as_torch_does(name: str, family: str, tmp_path: Path) -> None:
    need_engine(name)
    model = pruned(tiny_model(family, tmp_path / "hf"))
    engine = ENGINES[name](layout=layout_of(name, family))
    engine.build(model, None, tmp_path / "engine")

    found = engine.open(tmp_path / "engine", 1).run(ROWS).values

    np.testing.assert_allclose(found, torch_logits(model), atol=1e-4, rtol=1e-4)


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "linears for distances": (
        "deberta-v2",
        {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2},
    ),
    "one type, one way": ("deberta-v2", {"type_vocab_size": 1, "pos_att_type": "p2c"}),
    "the other way": ("deberta-v2", {"pos_att_type": "c2p", "norm_rel_ebd": "none"}),
    "mean": ("modernbert", {"classifier_pooling": "mean"}),
    "one layer": ("modernbert", {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
}


@pytest.mark.parametrize(("family", "config"), VARIANTS.values(), ids=VARIANTS)
def test_variants_lower_too(family: str, config: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf", **config)
    engine = ENGINES["onnxruntime"](layout=LAYOUTS["packed"])
    engine.build(model, None, tmp_path / "engine")

    found = engine.open(tmp_path / "engine", 1).run(ROWS).values

    np.testing.assert_allclose(found, torch_logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tags", [("O", "I-LOC", "I-PER")])
@each_family
def test_a_tagger_of_each_family_is_lowered(
    family: str, tags: tuple[str, ...], tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path / "hf", tags=tags)
    rows = replace(ROWS, readouts=ROWS.readouts_or_all())
    engine = ENGINES["onnxruntime"](layout=LAYOUTS["packed"])
    engine.build(model, None, tmp_path / "engine")

    found = engine.open(tmp_path / "engine", 1).run(rows).values

    assert model.encoder.shape.readout is Readout.TOKENS
    np.testing.assert_allclose(found, torch_logits(model, rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [*OWN, "albert"])
@pytest.mark.parametrize(
    ("name", "technique"),
    [("onnxruntime", "int8-dynamic"), ("onnxruntime", "int8-static"), ("openvino", "int8-static")],
)
def test_int8_stays_close(name: str, technique: str, family: str, tmp_path: Path) -> None:
    need_engine(name)
    model = pruned(tiny_model(family, tmp_path / "hf"))
    quantized = TECHNIQUES[technique]().prepare(model, calibration())
    engine = ENGINES[name](layout=layout_of(name, family))
    engine.build(quantized, None, tmp_path / "engine")

    found = engine.open(tmp_path / "engine", 1).run(ROWS).values

    expected = torch_logits(model)
    assert np.abs(found - expected).max() <= 0.2 * float(np.ptp(expected))
    assert np.abs(found - expected).max() > 0


@pytest.mark.parametrize("family", [*OWN, "albert"])
@pytest.mark.parametrize(
    "technique", [{"keep_time": 0.6}, {"keep_time": 0.6, "importance": "activation"}]
)
def test_pruning_by_importance_goes_through(
    family: str, technique: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny_model(family, tmp_path / "hf")

    smaller = TECHNIQUES["prune-structure"](round_neurons_to=8, **technique).prepare(
        model, calibration()
    )

    kept = [(layer.heads, layer.ffn) for layer in smaller.encoder.shape.layers]
    assert kept != [(HEADS, FFN)] * 2
    assert np.isfinite(torch_logits(smaller)).all()


@pytest.mark.parametrize("family", [*OWN, "albert"])
def test_ratios_of_low_rank_go_through(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf")

    smaller = TECHNIQUES["low-rank"](ratio=0.5).prepare(model, calibration())
    engine = ENGINES["onnxruntime"]()
    engine.build(smaller, None, tmp_path / "engine")
    found = engine.open(tmp_path / "engine", 1).run(ROWS).values

    assert smaller.parameters != model.parameters
    np.testing.assert_allclose(found, torch_logits(smaller), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "shape", [pytest.param(pruned, id="pruned"), pytest.param(lambda m: m, id="whole")]
)
@pytest.mark.parametrize("tags", [(), ("O", "I-LOC")], ids=["rows", "tokens"])
def test_albert_runs_on_the_native_engine(
    shape: Callable[[Model], Model], tags: tuple[str, ...], tmp_path: Path
) -> None:
    need_engine("native")
    model = shape(tiny_model("albert", tmp_path / "hf", tags=tags))
    rows = replace(ROWS, readouts=ROWS.readouts_or_all()) if tags else ROWS
    NativeEngine().build(model, None, tmp_path / "engine")

    found = NativeEngine().open(tmp_path / "engine", 1).run(rows).values

    np.testing.assert_allclose(found, torch_logits(model, rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", OWN)
def test_native_refuses_a_structure_that_its_kernels_lack(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf")

    with pytest.raises(EngineUnavailable, match=f"native: {family} has .*; use another engine"):
        NativeEngine().build(model, None, tmp_path / "engine")


@each_family
@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_neighbours_do_not_change_a_row(name: str, family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "hf")
    engine = ENGINES[name](layout=LAYOUTS["packed"])
    engine.build(model, None, tmp_path / "engine")
    session: Session = engine.open(tmp_path / "engine", 1)
    row = random_rows([11], pairs=True, seed=7)

    answers = [
        session.run(joined([row, random_rows(lengths, True, seed)])).values[0].copy()
        for seed, lengths in enumerate([(10, 9), (10, 9), (37,), (1, 1, 1), (3, 30, 18, 2)])
    ]

    assert max(np.abs(answer - answers[0]).max() for answer in answers) < 1e-5
