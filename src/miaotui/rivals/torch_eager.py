"""PyTorch eager, in fp32 or under bf16 autocast."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner, feeds
from miaotui.engines.layouts import Batch
from miaotui.hardware import Machine
from miaotui.rivals.base import Rival, Stock, missing_package, padded_inputs


@dataclass(frozen=True)
class TorchEager(Rival):
    """`bf16` runs the same module under autocast, whatever the processor makes of it."""

    bf16: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return "torch-eager-bf16" if self.bf16 else "torch-eager-fp32"

    def unavailable(self, machine: Machine) -> str | None:
        return missing_package(machine, "torch", "transformers")

    def runner(self, stock: Stock) -> Runner:
        return torch_runner(stock, stock.module, self.bf16)


def torch_runner(stock: Stock, module: Callable[..., Any], bf16: bool) -> Runner:
    """Runs the stock module, or what was compiled of it."""
    import torch

    names = padded_inputs(stock.module)

    def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
        if torch.get_num_threads() != stock.cores:  # the process's own: others set it too
            torch.set_num_threads(stock.cores)
        tensors = [torch.from_numpy(a) for a in feeds(batch, names).values()]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return module(*tensors).float().numpy()  # type: ignore[no-any-return]

    return run
