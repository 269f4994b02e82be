"""PyTorch eager: runs every model, in fp32, or in bf16 where the model's precision says so."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import (
    EMULATED_BF16,
    BatchedEngine,
    Move,
    Session,
    Workload,
    feeds,
    usual_layout,
)
from miaotui.engines.layouts import Batch
from miaotui.errors import BundleError, EngineFailed, ModelError, first_line
from miaotui.hardware import Machine
from miaotui.models.precision import PRECISION_FILE, Kind

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

_FACTS = "torch.json"


class TorchEngine(BatchedEngine):
    """Predicting needs torch, and transformers too where the family has no adapter."""

    package: ClassVar[str] = "torch"
    is_reference: ClassVar[bool] = True
    name: Literal["torch"] = "torch"

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        bf16 = Move(cls(layout=usual_layout(model, work)), Kind.BF16)
        return [bf16] if work.machine.computes_bf16 else []

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        return None if "torch" in machine.versions else "torch is not installed"

    def unsuited(self, folder: Path, machine: Machine) -> str | None:
        reason = self.unavailable(machine)
        if reason is not None or machine.computes_bf16:
            return reason
        return EMULATED_BF16 if stored_in_bf16(folder) or _was_bf16(folder) else None

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        from miaotui.models.load import save_model

        self.check_kinds(model, frozenset({Kind.FP32, Kind.BF16}))
        self.check_layout(model)
        save_model(model, folder)

    def open(self, folder: Path, cores: int) -> Session:
        from miaotui.models.load import find_model, load_model

        try:
            model = load_model(find_model(str(folder)))
        except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
            raise BundleError(f"{folder} cannot be opened by torch: {first_line(error)}") from error
        return self.open_model(model, cores, _was_bf16(folder) or None)

    def open_model(self, model: "Model", cores: int, bf16: bool | None = None) -> Session:
        """Runs a model as it is in memory, nothing written; with `bf16` in that or in fp32,
        whatever its precision says."""
        threads = self.threads_per_stream(cores)
        bf16 = Kind.BF16 in model.precision.kinds if bf16 is None else bf16
        runner = TorchRunner(self.name, model.module, input_names(model), bf16, threads)
        reads_tokens = model.task.reads_tokens
        return Session(runner, self.layout, self.streams, reads_tokens=reads_tokens)


def stored_in_bf16(folder: Path) -> bool:
    """Whether the precision that was saved with a model has bf16 in it."""
    path = folder / PRECISION_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
    return Kind.BF16.value in {
        entry["kind"] for entry in json.loads(text).get("linears", {}).values()
    }


def _was_bf16(folder: Path) -> bool:
    """In bundles made before a model's precision was saved with it."""
    path = folder / _FACTS
    return path.exists() and bool(json.loads(path.read_text(encoding="utf-8"))["bf16"])


def input_names(model: "Model") -> list[str]:
    """What the model's module takes, in order."""
    from miaotui.models.model import PaddedModel

    if isinstance(model.module, PaddedModel):
        return list(model.module.inputs)
    return ["ids", "positions", "segments", "types", "readout"]


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
