"""int8 weights, and activations quantized with ranges observed on training rows."""

from collections.abc import Callable
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from pydantic import Field

from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.techniques.base import Int8, check_skip, first_rows

if TYPE_CHECKING:
    from torch import Tensor

    from miaotui.models.model import Calibration, Model

Range = tuple[float, float]
_SAMPLE = 200_000
_SHRINKS = np.linspace(0.3, 1.0, 36)


class Int8Static(Int8):
    """`calibrator`: "minmax" takes the whole range seen; "percentile" leaves out the same share of
    extremes on either side; "mse" shrinks the range to what rounds a sample best. Linears whose
    names start with one of `skip` compute as `skipped_in` says."""

    quantizes: ClassVar[Kind | None] = Kind.INT8_STATIC
    name: Literal["int8-static"] = "int8-static"
    calibrator: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = Field(default=99.99, gt=50, le=100)
    rows: int = Field(default=256, ge=1)

    def variants(self) -> list[Self]:
        """The other calibrators."""
        return [
            self.model_copy(update={"calibrator": other})
            for other in ("percentile", "minmax")
            if other != self.calibrator
        ]

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.model import linears

        check_skip(self.name, model, self.skip)
        names = [n for n in linears(model.encoder) if n.startswith("layers.")]
        samples = _samples(model, first_rows(self.name, calibration, self.rows), names)
        choose: Callable[[ndarray], Range] = {
            "minmax": _minmax,
            "percentile": self._percentile,
            "mse": _least_error,
        }[self.calibrator]
        ranges = {name: choose(sample) for name, sample in samples.items()}
        int8 = {n: LinearPrecision(Kind.INT8_STATIC, *r) for n, r in ranges.items()}
        precision = Precision(int8, self.calibrator)
        return replace(model, precision=precision.without(self.skip, Kind(self.skipped_in)))

    def _percentile(self, sample: Float64[ndarray, " values"]) -> Range:
        low, high = np.percentile(sample, (100 - self.percentile, self.percentile))
        return float(low), float(high)


def _samples(
    model: "Model", calibration: "Calibration", names: list[str]
) -> dict[str, Float64[ndarray, " values"]]:
    """A bounded sample of each linear's inputs; its extremes are always in it."""
    from miaotui.models.observe import observe

    seen: dict[str, list[ndarray]] = {name: [] for name in names}
    per_batch = max(1, _SAMPLE * 32 // max(len(calibration.rows), 32))

    def observer(name: str, x: "Tensor") -> None:
        flat = x.flatten().numpy()
        step = _stride(len(flat) // per_batch, x.shape[-1])
        seen[name].append(np.concatenate([flat[::step], [flat.min(), flat.max()]]))

    observe(model.encoder, calibration.rows, names, observer)
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in seen.items()}


def _stride(wanted: int, features: int) -> int:
    """The next stride that shares no factor with the width: any other would visit the same few
    features in every token, and miss those whose values are large."""
    step = max(1, wanted)
    while gcd(step, features) > 1:
        step += 1
    return step


def _minmax(sample: Float64[ndarray, " values"]) -> Range:
    return float(sample.min()), float(sample.max())


def _least_error(sample: Float64[ndarray, " values"]) -> Range:
    low, high = _minmax(sample)
    errors = [_rounding_error(sample, low * s, high * s) for s in _SHRINKS]
    best = float(_SHRINKS[int(np.argmin(errors))])
    return low * best, high * best


def _rounding_error(sample: Float64[ndarray, " values"], low: float, high: float) -> float:
    scale = max(max(high, 0.0) - min(low, 0.0), 1e-8) / 255
    zero = np.clip(round(-min(low, 0.0) / scale), 0, 255)
    codes = np.clip(np.rint(sample / scale) + zero, 0, 255)
    return float(np.mean(((codes - zero) * scale - sample) ** 2))
