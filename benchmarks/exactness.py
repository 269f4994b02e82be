"""Where nothing was traded, nothing changes: our layouts and kernels against PyTorch eager.

    python benchmarks/exactness.py --model FOLDER [--rows 1000]

The fine-tuned model, uncompressed, in fp32, by every engine in every layout, on the three workloads
of rivals.py: labels that differ from eager's and the largest difference of a logit, as it is and as
a share of the spread of all logits. Fails where a logit differs by over 0.001, or a label by more
than that explains.
Result: results/exactness.json.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rivals
from packaged import FIXED_LENGTHS, conditions, write_result

from miaotui.engines.base import EngineBase, Session
from miaotui.engines.layouts import Bucketed, Packed, Padded
from miaotui.engines.native import NativeEngine
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.engines.torch import TorchEngine
from miaotui.hardware import probe
from miaotui.models.load import (
    find_model,
    load_config,
    load_model,
    load_transformers,
    padded_model,
)
from miaotui.rivals import StockModel
from miaotui.rivals.torch_eager import TorchEager

TOLERANCE = 1e-3
"""Of a logit: two rows' labels may differ where the best two are nearer than twice that."""
LAYOUTS = (
    Padded(batch=32),
    Bucketed(batch=16, edges=FIXED_LENGTHS),
    Packed(batch=8, block_tokens=512),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--rows", type=int, default=1000)
    given = options.parse_args()
    rivals.COUNTS.update(dict.fromkeys(rivals.COUNTS, given.rows))
    source = find_model(str(given.model))
    model, cores = load_model(source), probe().cores
    engines: list[EngineBase] = [NativeEngine()]
    for kind in (OnnxRuntimeEngine, OpenVinoEngine, TorchEngine):
        engines += [kind(layout=layout) for layout in LAYOUTS]
    results: dict[str, Any] = {"conditions": conditions(), "workloads": {}}
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(source)
        task = type(model.task)
        module = padded_model(load_transformers(source, config, task), task)
        rows = {
            name: model.task.encode(rivals.workload(name, given.model)) for name in rivals.COUNTS
        }
        stock = StockModel(module, rows["sentences"], Path(folder, "stock"), cores)
        eager = Session(TorchEager().runner(stock), Padded(batch=32))
        expected = {name: eager.run(each).values for name, each in rows.items()}
        for engine in engines:
            rivals.say(engine.title)
            engine.build(model, None, Path(folder, "engine"))
            session = engine.open(Path(folder, "engine"), cores)
            for name, each in rows.items():
                one = compared(expected[name], session.run(each).values)
                results["workloads"].setdefault(name, {})[engine.title] = one
                worst += one["unexplained"]
                print(f"{name:10s} {engine.title:24s} {one}")
            session.close()
    write_result("exactness", results)
    if worst:
        sys.exit(1)


def compared(expected: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    differs = expected.argmax(axis=1) != logits.argmax(axis=1)
    best = np.sort(expected, axis=1)
    near = best[:, -1] - best[:, -2] < 2 * TOLERANCE
    largest = float(np.abs(expected - logits).max())
    return {
        "rows": len(expected),
        "other_labels": int(differs.sum()),
        "unexplained": int((differs & ~near).sum()) + int(largest > TOLERANCE),
        "largest_difference": largest,
        "share_of_spread": largest / float(np.ptp(expected)),
    }


if __name__ == "__main__":
    main()
