"""int8 weights, activations quantized as they come."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.techniques.base import Int8, check_skip

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


class Int8Dynamic(Int8):
    """Every linear of the layers in int8, but for those whose names start with one of `skip`: they
    compute as `skipped_in` says."""

    quantizes: ClassVar[Kind | None] = Kind.INT8_DYNAMIC
    name: Literal["int8-dynamic"] = "int8-dynamic"

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.model import linears

        check_skip(self.name, model, self.skip)
        names = [
            name
            for name in linears(model.module)
            if name.startswith("layers.") or not model.has_adapter
        ]
        int8 = Precision(dict.fromkeys(names, LinearPrecision(Kind.INT8_DYNAMIC)))
        return replace(model, precision=int8.without(self.skip, Kind(self.skipped_in)))
