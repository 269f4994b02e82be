"""What a user would run without us: stock library calls on the untouched transformers model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from miaotui.engines.base import Runner
from miaotui.engines.layouts import Layout, Padded
from miaotui.engines.onnx_files import ONNX_FILE, trace
from miaotui.engines.onnx_saving import write_onnx
from miaotui.errors import EngineFailed
from miaotui.hardware import Machine
from miaotui.models.model import PaddedModel
from miaotui.tasks.base import EncodedRows


@dataclass(frozen=True)
class StockModel:
    """The model as transformers loads it, rows to calibrate on, and a folder for exports."""

    module: PaddedModel
    calibration: EncodedRows
    folder: Path
    cores: int
    saturates: bool = False
    """Whether the processor adds int8 products in 16 bits, for which a quantizer leaves room."""

    def onnx(self) -> Path:
        """torch's own ONNX export with dynamic shapes, tried once for all rivals."""
        path, failed = self.folder / ONNX_FILE, self.folder / "failed.txt"
        if failed.exists():
            raise EngineFailed(failed.read_text(encoding="utf-8"))
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                write_onnx(trace(self.module), path)
            except EngineFailed as error:
                failed.write_text(str(error), encoding="utf-8")
                raise
        return path


class Rival(ABC):
    """One way of running the original; given padded batches of rows sorted by length."""

    name: str

    @abstractmethod
    def unavailable(self, machine: Machine) -> str | None:
        """Why it cannot run on this machine; None where it can."""

    def layouts(self, batches: Sequence[int]) -> list[Layout]:
        """How rows may be given to it, of which the fastest is chosen; single rows alike."""
        return [Padded(batch=batch) for batch in batches]

    @abstractmethod
    def runner(self, stock: StockModel) -> Runner:
        """Builds whatever it needs and returns what runs a batch."""


def missing_package(machine: Machine, *names: str) -> str | None:
    absent = [n for n in names if n not in machine.versions and find_spec(n) is None]
    return f"{', '.join(absent)} is not installed" if absent else None


def padded_inputs(module: PaddedModel) -> list[str]:
    return list(module.inputs)
