"""torch.compile with Inductor, its default mode or max-autotune, weights frozen."""

from dataclasses import dataclass
from typing import Literal

from miaotui.engines.base import Runner
from miaotui.hardware import Machine, cpp_compiler
from miaotui.rivals.base import Rival, StockModel, missing_package
from miaotui.rivals.torch_eager import EMULATED, torch_runner


@dataclass(frozen=True)
class TorchCompile(Rival):
    """Shapes are dynamic from the first call on, so that no length compiles again."""

    mode: Literal["default", "max-autotune"] = "default"
    bf16: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"torch-compile-{self.mode}" + ("-bf16" if self.bf16 else "")

    def unavailable(self, machine: Machine) -> str | None:
        if cpp_compiler() is None:
            return "there is no C++ compiler, which Inductor needs; install g++"
        if self.bf16 and not machine.computes_bf16:
            return EMULATED
        return missing_package(machine, "torch", "transformers")

    def runner(self, stock: StockModel) -> Runner:
        import torch
        import torch._inductor.config as inductor

        inductor.freezing = True
        compiled = torch.compile(stock.module, mode=self.mode, dynamic=True)
        return torch_runner(self.name, stock, compiled, self.bf16)
