"""OpenVINO as it comes (padded, dynamic shapes), and with NNCF's int8."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner, feeds
from miaotui.engines.layouts import Batch, Padded
from miaotui.hardware import Machine
from miaotui.quiet import hushed, silence_telemetry
from miaotui.rivals.base import Rival, StockModel, missing_package

_CALIBRATION_ROWS = 300


@dataclass(frozen=True)
class OpenVino(Rival):
    """Default properties; `int8` quantizes with NNCF's transformer preset on 300 training rows."""

    int8: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        return "openvino-nncf-int8" if self.int8 else "openvino"

    def unavailable(self, machine: Machine) -> str | None:
        needed = ("openvino", "onnxscript", "nncf") if self.int8 else ("openvino", "onnxscript")
        return missing_package(machine, *needed)

    def runner(self, stock: StockModel) -> Runner:
        silence_telemetry()
        import openvino

        network = openvino.Core().read_model(str(stock.onnx()))
        names = [entry.get_any_name() for entry in network.inputs]
        if self.int8:
            network = _quantized(network, stock, names)
        settings = {"INFERENCE_NUM_THREADS": stock.cores}
        request = openvino.compile_model(network, "CPU", settings).create_infer_request()

        def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
            request.infer(feeds(batch, names), share_inputs=True)
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)

        return run


def _quantized(network: Any, stock: StockModel, names: list[str]) -> Any:
    import nncf

    nncf.set_log_level("ERROR")
    chosen = stock.calibration.select(range(min(_CALIBRATION_ROWS, len(stock.calibration))))
    samples = [feeds(batch, names) for batch in Padded(batch=1).batches(chosen)]
    with hushed():
        return nncf.quantize(
            network,
            nncf.Dataset(_Samples(samples)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
        )


@dataclass(frozen=True)
class _Samples:
    items: list[dict[str, ndarray]]

    def __iter__(self) -> Iterator[dict[str, ndarray]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
