"""A trial's memory is that of a process warmed up as a bundle will be."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from miaotui import footprint
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from tiny_encoder import rows
from tiny_runner import Noted


def test_the_memory_is_measured_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, runner = rows(3), Noted()
    arrays = {"ids": asked.ids, "starts": asked.starts, "types": np.zeros_like(asked.ids)}
    save_file(arrays, str(tmp_path / "rows"))
    engine = OnnxRuntimeEngine().model_dump(mode="json")
    facts = {"engine": engine, "folder": str(tmp_path), "cores": 1, "longest_row": 17}
    monkeypatch.setattr(footprint, "open_stages", lambda *_: runner)

    held = footprint.served_bytes(json.dumps(facts), str(tmp_path / "rows"))

    assert runner.calls == ["warm up 17", "run"]
    assert held > 10_000_000
