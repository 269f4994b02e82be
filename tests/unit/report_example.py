"""One realistic result for every test of the report: 10 front points, 6 layers, 7 rivals."""

import math
import random
from typing import Any

from miaotui.measure.result import OptimizationResult

_RIVALS: dict[str, tuple[float, float, float, float]] = {
    "torch-eager-fp32": (412.0, 5.31, 7.92, 0.0),
    "torch-compile-fp32": (521.4, 4.12, 6.30, 0.0),
    "onnxruntime-fp32": (640.2, 2.95, 4.81, 0.0),
    "onnxruntime-int8-dynamic": (1098.7, 1.71, 2.66, 0.0073),
    "openvino-fp32": (1032.0, 2.41, 7.48, 0.0007),
    "openvino-int8-nncf": (1311.5, 1.62, 2.31, 0.0187),
}
_OURS = (2214.6, 0.84, 1.19)
_BASELINE = (1653.3, 1.42, 1.98)

_FRONT: list[tuple[str, float, float, float, int, str]] = [
    ("original", 0.0, 412.0, 7.92, 90_900_000, "original"),
    ("onnxruntime/padded", 0.0, 798.0, 4.4, 91_200_000, "free"),
    ("openvino/bucketed", 0.0, 1210.0, 3.1, 91_000_000, "free"),
    ("openvino/packed", 0.0007, 1653.3, 1.98, 91_000_000, "free"),
    ("int8-dynamic + onnxruntime/packed", 0.004, 1720.0, 1.9, 23_400_000, "compressed"),
    ("prune 70% + openvino/packed", 0.017, 2190.0, 1.3, 68_000_000, "compressed"),
    ("prune 70% + distil + openvino/packed", 0.0042, 2214.6, 1.19, 68_000_000, "recovered"),
    ("prune 45% + distil + openvino/packed", 0.0128, 3012.0, 0.92, 52_000_000, "recovered"),
    ("layers 3 + openvino/packed", 0.31, 3300.0, 0.88, 58_000_000, "compressed"),
    ("openvino-int8-nncf", 0.0187, 1311.5, 2.31, 24_000_000, "rival"),
]

COMMAND = (
    "miaotui optimize models/评论-minilm --data data/reviews.csv --max-drop 1% --time 10m --seed 0"
)


def example_result(**changed: Any) -> OptimizationResult:
    """The example, with whole top-level fields replaced by `changed`."""
    return OptimizationResult.model_validate(example_document() | changed)


def example_document() -> dict[str, Any]:
    return {
        "bundle": "out/评论-minilm-fast",
        "task": "text-classification",
        "recipe": _recipe("prune 70% + distil"),
        "trials": 17,
        "seconds": 583.1,
        "quality": {
            "metric": "accuracy",
            "original": 0.854,
            "optimized": 0.849,
            "drop": 0.005,
            "drop_interval_95": [-0.004, 0.014],
            "rows": 1500,
            "within_budget": True,
            "within_budget_95": False,
            "confidence": 0.8,
            "upper_bound": 0.0087,
        },
        "speed": _speed(),
        "size_bytes": {"original": 90_900_000, "optimized": 68_000_000},
        "notes": [
            "Training rows score 3.4 points above test rows: 模型可能见过这些评论。",
            "Low rank was not tried: no layer is wide enough for it to win.",
        ],
        "details": _details(),
    }


def _recipe(title: str) -> dict[str, Any]:
    return {
        "title": title,
        "steps": [{"name": "prune-structure", "keep_time": 0.7}, {"kind": "distil", "epochs": 3}],
        "engine": {"name": "openvino", "layout": {"kind": "packed", "tokens": 96}, "threads": 2},
    }


def _ratio(value: float) -> list[float]:
    return [value * 0.97, value, value * 1.04]


def _speed() -> dict[str, Any]:
    rivals: dict[str, Any] = {
        name: {
            "throughput_rows_per_s": rate,
            "latency_ms": {"p50": p50, "p99": p99},
            "keeps_limit": drop <= 0.01,
            "throughput_ratio": _ratio(_OURS[0] / rate),
            "p50_ratio": _ratio(p50 / _OURS[1]),
            "p99_ratio": _ratio(p99 / _OURS[2]),
        }
        for name, (rate, p50, p99, drop) in _RIVALS.items()
    }
    rivals["optimum-onnx-o3"] = {"dropped": "dropped for time after 0 rounds"}
    return {
        "objective": "throughput",
        "throughput_rows_per_s": _OURS[0],
        "latency_ms": {"p50": _OURS[1], "p99": _OURS[2]},
        "baseline": {
            "throughput_rows_per_s": _BASELINE[0],
            "latency_ms": {"p50": _BASELINE[1], "p99": _BASELINE[2]},
            "throughput_ratio": _ratio(_OURS[0] / _BASELINE[0]),
            "p99_ratio": _ratio(_BASELINE[2] / _OURS[2]),
        },
        "rivals": rivals,
    }


def _details() -> dict[str, Any]:
    heads, ffn = (12, 9, 8, 8, 6, 7), (1536, 1152, 1024, 896, 768, 960)
    drops = (0.0007, 0.0013, 0.002, 0.0047, 0.0033, -0.0007)
    return {
        "max_drop": 0.01,
        "command": COMMAND,
        "environment": _environment(),
        "splits": {"train": 6840, "validation": 760, "selection": 1500, "test": 1500},
        "configurations": [_point(*point) for point in _FRONT],
        "speedup_steps": [
            {"step": "original: torch", "throughput_rows_per_s": 412.0, "drop_selection": 0.0},
            {"step": "runtime: openvino", "throughput_rows_per_s": 1032.0, "drop_selection": 0.0},
            {"step": "layout: packed", "throughput_rows_per_s": 1620.0, "drop_selection": 0.0},
            {
                "step": "compression: prune 70% + distil",
                "throughput_rows_per_s": 2050.0,
                "drop_selection": 0.0042,
            },
            {"step": "precision: bf16", "throughput_rows_per_s": 2214.6, "drop_selection": 0.0042},
        ],
        "layers": [
            {"heads_before": 12, "heads_kept": h, "ffn_before": 1536, "ffn_kept": f}
            for h, f in zip(heads, ffn, strict=True)
        ],
        "sensitivity": [{"layer": i, "drop": drop} for i, drop in enumerate(drops)],
        "latency_ms": {"optimized": _latencies(_OURS, 1), "baseline": _latencies(_BASELINE, 2)},
        "engine_throughput_rows_per_s": 2481.0,
        "rival_drop": {name: drop for name, (*_, drop) in _RIVALS.items()} | {"baseline": 0.0007},
        "unavailable": {"tensorrt": "needs an NVIDIA GPU"},
        "acceptance": [
            {"name": "openvino/packed", "drop": 0.0007, "passed": True},
            {"name": "prune 70% + distil + openvino/packed", "drop": 0.005, "passed": True},
            {"name": "prune 45% + distil + openvino/packed", "drop": 0.0133, "passed": False},
        ],
        "latency_table_error": 0.071,
    }


def _environment() -> dict[str, Any]:
    return {
        "cpu_model": "Intel(R) Xeon(R) Processor @ 2.70GHz",
        "architecture": "x86_64",
        "isa": ["avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"],
        "cores": 2,
        "memory_usable_bytes": 8_000_000_000,
        "os": "Linux 6.1",
        "python": "3.11.9",
        "versions": {"torch": "2.8.0", "onnxruntime": "1.23.0", "openvino": "2025.3.0"},
        "gpus": [],
    }


def _point(
    name: str, drop: float, rate: float, p99_ms: float, size: int, kind: str
) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": _recipe(name),
        "quality_selection": 0.854 - drop,
        "drop_selection": drop,
        "throughput_rows_per_s": rate,
        "p99_ms": p99_ms,
        "size_bytes": size,
        "chosen": name.startswith("prune 70% + distil"),
        "kind": kind,
    }


def _latencies(measured: tuple[float, float, float], seed: int) -> list[float]:
    """Skewed to the right, as latencies are; half lie below p50 and 1% above p99."""
    _, p50, p99 = measured
    numbers = random.Random(seed)
    spread = (p99 - p50) / (math.exp(2.326 * 0.7) - 1)
    return [p50 + spread * (math.exp(0.7 * numbers.normalvariate()) - 1) for _ in range(1200)]
