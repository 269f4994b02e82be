"""PyTorch eager: runs every model, in fp32, or in bf16 where the model's precision says so."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import BatchedEngine, Session, feeds
from miaotui.engines.layouts import Batch
from miaotui.errors import BundleError, EngineFailed, ModelError, first_line
from miaotui.hardware import Machine
from miaotui.models.precision import Kind
from miaotui.models.shape import Readout

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

_FACTS = "torch.json"


class TorchEngine(BatchedEngine):
    """Predicting needs torch, and transformers too where the family has no adapter."""

    package: ClassVar[str] = "torch"
    name: Literal["torch"] = "torch"

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        return None if "torch" in machine.versions else "torch is not installed"

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        from miaotui.models.load import save_model

        self.check_kinds(model, frozenset({Kind.FP32, Kind.BF16}))
        self.check_layout(model)
        self.check_readout(model, frozenset({Readout.FIRST, Readout.MEAN}))
        save_model(model, folder)
        facts = {"bf16": Kind.BF16 in model.precision.kinds}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> Session:
        from miaotui.models.load import find_model, load_model

        try:
            bf16 = bool(json.loads((folder / _FACTS).read_text(encoding="utf-8"))["bf16"])
            model = load_model(find_model(str(folder)))
        except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
            raise BundleError(f"{folder} cannot be opened by torch: {first_line(error)}") from error
        threads = self.threads_per_stream(cores)
        runner = TorchRunner(self.name, model.module, input_names(model), bf16, threads)
        return Session(runner, self.layout, self.streams)


def input_names(model: "Model") -> list[str]:
    """What the model's module takes, in order."""
    if model.has_adapter:
        return ["ids", "positions", "segments", "types", "readout"]
    return ["ids", "mask"] + (["types"] if getattr(model.module, "takes_types", False) else [])


@dataclass(frozen=True)
class TorchRunner:
    """Runs a module, or what was compiled of one, on torch's threads. `engine` stands in errors."""

    engine: str
    module: Any
    inputs: Sequence[str]
    bf16: bool
    threads: int

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]:
        import torch

        if torch.get_num_threads() != self.threads:  # the process's own: others set it too
            torch.set_num_threads(self.threads)
        tensors = [torch.from_numpy(a) for a in feeds(batch, self.inputs).values()]
        try:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return self.module(*tensors).float().numpy()  # type: ignore[no-any-return]
        except (RuntimeError, IndexError) as error:
            raise EngineFailed(f"{self.engine}: {first_line(error)}") from error
