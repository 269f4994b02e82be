"""PyTorch eager, in fp32 or under bf16 autocast."""

from dataclasses import dataclass
from typing import Any

from miaotui.engines.base import Runner
from miaotui.engines.torch import TorchRunner
from miaotui.hardware import Machine
from miaotui.rivals.base import Rival, StockModel, missing_package, padded_inputs

EMULATED = "this processor only emulates bf16, many times slower than fp32"


@dataclass(frozen=True)
class TorchEager(Rival):
    """`bf16` runs the same module under autocast, where the processor multiplies bf16."""

    bf16: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return "torch-eager-bf16" if self.bf16 else "torch-eager-fp32"

    def unavailable(self, machine: Machine) -> str | None:
        if self.bf16 and not machine.computes_bf16:
            return EMULATED
        return missing_package(machine, "torch", "transformers")

    def runner(self, stock: StockModel) -> Runner:
        return torch_runner(self.name, stock, stock.module, self.bf16)


def torch_runner(name: str, stock: StockModel, module: Any, bf16: bool) -> Runner:
    """Runs the stock module, or what was compiled of it."""
    return TorchRunner(name, module, padded_inputs(stock.module), bf16, stock.cores)
