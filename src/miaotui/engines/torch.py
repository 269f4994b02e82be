"""PyTorch eager: runs every model, in fp32, or in bf16 where the model's precision says so."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import EngineBase, Session, feeds
from miaotui.engines.layouts import Batch, Packed
from miaotui.engines.onnx_files import check_kinds
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.models.precision import Kind

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

_FACTS = "torch.json"


class TorchEngine(EngineBase):
    """Predicting needs torch, and transformers too where the family has no adapter."""

    name: Literal["torch"] = "torch"

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        return None if "torch" in machine.versions else "torch is not installed"

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        from miaotui.models.load import save_model

        check_kinds(model, frozenset({Kind.FP32, Kind.BF16}), self.name)
        if not model.has_adapter and isinstance(self.layout, Packed):
            raise EngineUnavailable(
                f"{model.family} has no adapter and cannot be packed; use the padded layout"
            )
        save_model(model, folder)
        facts = {"bf16": Kind.BF16 in model.precision.kinds}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> Session:
        import torch

        from miaotui.models.load import find_model, load_model

        torch.set_num_threads(self.threads_per_stream(cores))
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        model = load_model(find_model(str(folder)))
        runner = _Runner(torch, model.module, model.has_adapter, bool(facts["bf16"]))
        return Session(runner, self.layout, self.streams)


class _Runner:
    def __init__(self, torch: Any, module: Any, has_adapter: bool, bf16: bool) -> None:
        self._torch = torch
        self._module = module
        names = ["ids", "mask"] + (["types"] if getattr(module, "takes_types", False) else [])
        self._inputs = (
            ["ids", "positions", "segments", "types", "readout"] if has_adapter else names
        )
        self._bf16 = bf16

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        torch = self._torch
        tensors = [torch.from_numpy(a) for a in feeds(batch, self._inputs).values()]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            return self._module(*tensors).float().numpy()  # type: ignore[no-any-return]
