"""ONNX Runtime on torch's export: fp32, or its own dynamic quantizer, per channel."""

from dataclasses import dataclass

import onnx
from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner, feeds
from miaotui.engines.layouts import Batch
from miaotui.engines.onnx_files import quantize_dynamically
from miaotui.engines.onnx_saving import write_onnx
from miaotui.engines.onnxruntime import onnx_session, run_onnx
from miaotui.hardware import Machine
from miaotui.rivals.base import Rival, StockModel, missing_package


@dataclass(frozen=True)
class OnnxRuntime(Rival):
    """Default session options but for the number of threads."""

    int8: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return "onnxruntime-dynamic-int8" if self.int8 else "onnxruntime-fp32"

    def unavailable(self, machine: Machine) -> str | None:
        return missing_package(machine, "onnxruntime", "onnxscript")

    def runner(self, stock: StockModel) -> Runner:
        path = stock.onnx()
        if self.int8:
            quantized = quantize_dynamically(onnx.load(str(path)), reduce_range=stock.saturates)
            path = stock.folder / "dynamic-int8.onnx"
            write_onnx(quantized, path)
        session = onnx_session(path, stock.cores)
        names = [entry.name for entry in session.get_inputs()]

        def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
            return run_onnx(session, feeds(batch, names))

        return run
