"""What compiled PyTorch is made of and where it lies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny_encoder
from miaotui.engines.torch_compile import TorchCompileEngine
from miaotui.engines.torch_linears import Int8Linear
from miaotui.errors import EngineFailed
from miaotui.paths import CACHE_VARIABLE

LARGEST = """
import torch
from torch import nn
from miaotui.engines.torch_linears import Int8Linear
linear = nn.Linear(256, 64)
with torch.no_grad():
    linear.weight.fill_(1)
    linear.bias.zero_()
print(Int8Linear(linear, 7)(torch.ones(8, 256)).unique().tolist())
"""


def test_seven_bits_do_not_saturate_where_there_is_no_vnni() -> None:
    """All codes at their largest; with eight bits 2 comes out instead of 256."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", LARGEST], env=environment, capture_output=True, text=True, check=True
    )
    (value,) = json.loads(done.stdout)
    assert value == pytest.approx(256, rel=1e-5)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.012), (7, 0.024)])
def test_an_int8_linear_is_near_the_one_it_was_made_of(bits: int, share: float) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 40), torch.randn(5, 7, 96)
    exact = linear(x)
    found = Int8Linear(linear, bits)(x)
    assert found.shape == exact.shape
    assert (found - exact).abs().max() < share * (exact.max() - exact.min())


def test_a_cache_that_cannot_be_written_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(EngineFailed, match=f"cannot be written .*; set {CACHE_VARIABLE}"):
        TorchCompileEngine().build(tiny_encoder.model(1), None, tmp_path / "engine")
