"""OpenVINO as a careful user would run it: a compiled network for each of a few lengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from miaotui.engines.base import Runner, feeds
from miaotui.engines.layouts import Batch, Bucketed, Layout
from miaotui.hardware import Machine
from miaotui.quiet import silence_telemetry
from miaotui.rivals.base import Rival, StockModel, missing_package

EDGES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class OpenVinoBuckets(Rival):
    """torch's export, reshaped to each length and to powers of two of rows; default properties."""

    name = "openvino-buckets"

    def unavailable(self, machine: Machine) -> str | None:
        return missing_package(machine, "openvino", "onnxscript")

    def layouts(self, batches: Sequence[int]) -> list[Layout]:
        return [Bucketed(batch=batch, edges=EDGES) for batch in batches]

    def runner(self, stock: StockModel) -> Runner:
        silence_telemetry()
        import openvino

        network = openvino.Core().read_model(str(stock.onnx()))
        names = [entry.get_any_name() for entry in network.inputs]
        settings = {"INFERENCE_NUM_THREADS": stock.cores}
        requests: dict[tuple[int, int], Any] = {}

        def run(batch: Batch) -> Float32[ndarray, "blocks labels"]:
            blocks, tokens, _ = batch.shape
            filled = int(
                (batch.owners[:, 0] >= 0).sum()
            )  # rows come first, then what only fills up
            rows = min(blocks, 1 << (filled - 1).bit_length())
            if (rows, tokens) not in requests:
                fixed = network.clone()
                fixed.reshape({name: [rows, tokens] for name in names})
                compiled = openvino.compile_model(fixed, "CPU", settings)
                requests[rows, tokens] = compiled.create_infer_request()
            request = requests[rows, tokens]
            inputs = {name: array[:rows] for name, array in feeds(batch, names).items()}
            request.infer(inputs, share_inputs=True)
            logits = np.array(request.get_output_tensor(0).data, dtype=np.float32)
            return np.pad(logits, ((0, blocks - rows), (0, 0)))

        return run
