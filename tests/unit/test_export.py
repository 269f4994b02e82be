"""A model as plain ONNX answers as transformers does, whatever it reads."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from miaotui.engines.onnx_files import to_onnx
from miaotui.engines.onnx_saving import weights_of
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.models.load import find_model, load_model
from miaotui.models.precision import Kind
from miaotui.pipeline.export import export, plain
from tiny import TAGS, UNKNOWN, hf_logits, random_rows, save_tiny
from tiny_bundle import in_kind, made_by


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", UNKNOWN])
@pytest.mark.parametrize("tags", [(), TAGS], ids=["classes", "tags"])
def test_plain_onnx_answers_as_transformers_does(
    tmp_path: Path, family: str, tags: tuple[str, ...]
) -> None:
    folder = save_tiny(family, tmp_path / "model", **({"tags": tags} if tags else {}))
    model = load_model(find_model(str(folder)))
    rows = random_rows([7, 7, 7])
    ids = rows.ids.reshape(3, 7).astype(np.int64)
    graph = plain(to_onnx(model, weight_bits=8), model.task.reads_tokens)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    assert [o.shape for o in session.get_outputs()] == [
        ["batch", "tokens", len(tags)] if tags else ["batch", 2]
    ]
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    feeds = {entry.name: given[entry.name] for entry in session.get_inputs()}
    found = session.run(None, feeds)[0]
    expected = hf_logits(folder, rows, types="token_type_ids" in feeds)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-4)


def test_weights_of_an_export_before_are_gone(tmp_path: Path) -> None:
    bundle = made_by(tmp_path / "fast", OnnxRuntimeEngine(), in_kind(Kind.FP32), golden=False)
    out = tmp_path / "plain.onnx"
    weights_of(out).write_bytes(b"of a larger model")
    said = export(bundle.folder, "onnx", out)
    assert "beside it" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast", "plain.onnx"]
    onnxruntime.InferenceSession(str(out))
