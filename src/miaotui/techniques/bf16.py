"""bfloat16 products, where an engine computes in them."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.techniques.base import TechniqueBase

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


class BFloat16(TechniqueBase):
    """Every linear in bf16."""

    quantizes: ClassVar[Kind | None] = Kind.BF16
    name: Literal["bf16"] = "bf16"

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.model import linears

        names = dict.fromkeys(linears(model.module), LinearPrecision(Kind.BF16))
        return replace(model, precision=Precision(names))
