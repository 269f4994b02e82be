"""A trial's memory is that of a process warmed up as a bundle will be."""

import json
from pathlib import Path

import numpy as np
import openvino
import pytest
from safetensors.numpy import save_file

import tiny_encoder
from miaotui import footprint
from miaotui.cascade import ENGINE_FOLDER
from miaotui.engines.openvino import OpenVinoEngine


def test_the_memory_is_measured_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, engine = tiny_encoder.rows(3), OpenVinoEngine()
    arrays = {"ids": asked.ids, "starts": asked.starts, "types": np.zeros_like(asked.ids)}
    save_file(arrays, str(tmp_path / "rows"))
    (tmp_path / ENGINE_FOLDER).mkdir()
    engine.build(tiny_encoder.model(1), None, tmp_path / ENGINE_FOLDER)
    shapes: list[tuple[int, ...]] = []
    infer = openvino.InferRequest.infer

    def noted(request: openvino.InferRequest, inputs: dict[str, np.ndarray], **given: bool) -> None:
        shapes.append(inputs["ids"].shape)
        infer(request, inputs, **given)

    monkeypatch.setattr(openvino.InferRequest, "infer", noted)
    facts = {"engine": engine.model_dump(mode="json"), "folder": str(tmp_path), "cores": 1}

    held = footprint.served_bytes(json.dumps(facts | {"longest_row": 20}), str(tmp_path / "rows"))

    after = shapes.index((1, 20)) + 1
    assert all(rows == 1 for rows, _ in shapes[:after]), "single rows first, of every length"
    assert sum(rows for rows, _ in shapes[after:]) == len(asked)
    assert held > 10_000_000
