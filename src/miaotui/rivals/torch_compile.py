"""torch.compile with Inductor, its default mode or max-autotune, weights frozen."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner, feeds
from miaotui.engines.layouts import Batch
from miaotui.hardware import Machine, cpp_compiler
from miaotui.rivals.base import Rival, Stock, missing_package, padded_inputs


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
        return missing_package(machine, "torch", "transformers")

    def runner(self, stock: Stock) -> Runner:
        import torch
        import torch._inductor.config as inductor

        inductor.freezing = True
        torch.set_num_threads(stock.cores)
        compiled = torch.compile(stock.module, mode=self.mode, dynamic=True)
        names = padded_inputs(stock.module)

        def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
            tensors = [torch.from_numpy(a) for a in feeds(batch, names).values()]
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return compiled(*tensors).float().numpy()  # type: ignore[no-any-return]

        return run
