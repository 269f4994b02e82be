"""Removes whole layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from miaotui.errors import RecipeError
from miaotui.techniques.base import TechniqueBase

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


class DropLayers(TechniqueBase):
    """Keeps the layers at `keep`, ascending, from 0."""

    name: Literal["drop-layers"] = "drop-layers"
    keep: tuple[int, ...]

    @property
    def title(self) -> str:
        return f"layers {len(self.keep)}"

    def layers_left(self, layers: Sequence[int]) -> list[int]:
        return [layers[i] for i in self.keep]

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.surgery import keep_layers

        layers = len(model.encoder.shape.layers)
        valid = self.keep and all(0 <= i < layers for i in self.keep)
        if not valid or list(self.keep) != sorted(set(self.keep)):
            raise RecipeError(
                f"drop-layers: keep is {list(self.keep)}; "
                f"expected ascending layers of 0 to {layers - 1}"
            )
        return model.with_module(keep_layers(model.encoder, self.keep))
