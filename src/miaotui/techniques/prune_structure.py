"""Removes attention heads and feed-forward neurons: importance, a mask solved against measured
time, and a least-squares correction of what remains."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from miaotui.errors import RecipeError
from miaotui.techniques.base import TechniqueBase, first_rows

if TYPE_CHECKING:
    from miaotui.models.hooks import Hooks
    from miaotui.models.latency_table import LatencyTable
    from miaotui.models.mask import Least, Mask
    from miaotui.models.model import Calibration, Model
    from miaotui.models.shape import EncoderShape


_LEAST_SHARE = 6
"""One of so many heads stays, and of so many neurons or one rounding step."""


class PruneStructure(TechniqueBase):
    """Keeps `keep_time` of the time that the layers take by the calibration's latency table (by
    multiply-adds where nothing was timed).

    With `keep_blocks` no layer loses all its heads or all its neurons: importance is a sum over
    single ones, and says nothing of what a layer is without any. Whole layers are for drop-layers.

    With `events` it prunes little by little in the training that follows, at so many moments of its
    first part (`until`, a share of it), each time by importances measured anew; what is left
    falls with the cube of the time left (Zhu and Gupta 2017). Nothing is refitted then.
    """

    uses_latency: ClassVar[bool] = True
    name: Literal["prune-structure"] = "prune-structure"
    keep_time: float = Field(gt=0, le=1)
    importance: Literal["fisher", "activation"] = "fisher"
    correct: bool = True
    rows: int = Field(default=384, ge=1)
    round_neurons_to: int = Field(default=32, ge=1)
    keep_blocks: bool = True
    events: int = Field(default=0, ge=0, le=100)
    until: float = Field(default=0.5, gt=0, le=1)

    @property
    def title(self) -> str:
        return f"prune {self.keep_time:.0%}" + (" gradually" if self.events else "")

    @property
    def acts_in_training(self) -> bool:
        return self.events > 0

    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        from miaotui.models.correction import corrected
        from miaotui.models.surgery import keep_heads_and_neurons

        encoder, rows = model.encoder, first_rows(self.name, calibration, self.rows)
        if self.acts_in_training:
            return model
        mask = self._solver(model, rows)(self.keep_time)
        smaller = keep_heads_and_neurons(encoder, mask.heads, mask.neurons)
        if self.correct and self.keep_time < 1:
            smaller = corrected(encoder, smaller, mask, rows.rows)
        return model.with_module(smaller)

    def open_(self, student: "Model", calibration: "Calibration") -> "Hooks":
        from miaotui.models.gradual import GradualMasks
        from miaotui.models.surgery import refuse_factorized

        refuse_factorized(student.encoder)
        solve = self._solver(student, first_rows(self.name, calibration, self.rows))
        return GradualMasks(student.encoder, solve, self.keep_time, self.events, self.until)

    def finish(self, model: "Model", hooks: "Hooks") -> "Model":
        from miaotui.models.gradual import mask_of
        from miaotui.models.surgery import keep_heads_and_neurons

        mask = mask_of(hooks.state())
        return model.with_module(keep_heads_and_neurons(model.encoder, mask.heads, mask.neurons))

    def _solver(self, model: "Model", rows: "Calibration") -> "Callable[[float], Mask]":
        """From a share of the time to what is kept, by importances as they are when it is asked."""
        from miaotui.models.importance import activation_importance, fisher_importance
        from miaotui.models.latency_table import arithmetic_table
        from miaotui.models.mask import best_mask

        encoder, loss = model.encoder, model.task.loss
        table = rows.latency or arithmetic_table(encoder.shape)
        least = self._least(encoder.shape)
        self._check_reachable(encoder.shape, table, least)
        score = fisher_importance if self.importance == "fisher" else activation_importance

        def solve(keep_time: float) -> "Mask":
            importance = score(encoder, rows, loss)
            return best_mask(importance, table, keep_time, self.round_neurons_to, least)

        return solve

    def _least(self, shape: "EncoderShape") -> "Least":
        from miaotui.models.mask import Least

        if not self.keep_blocks:
            return Least()
        heads = max(layer.heads for layer in shape.layers)
        neurons = max(layer.ffn for layer in shape.layers)
        return Least(
            heads=-(-heads // _LEAST_SHARE),
            neurons=min(self.round_neurons_to, -(-neurons // _LEAST_SHARE)),
        )

    def _check_reachable(
        self, shape: "EncoderShape", table: "LatencyTable", least: "Least"
    ) -> None:
        from miaotui.models.shape import LayerShape

        layers = tuple(
            LayerShape(min(least.heads, layer.heads), min(least.neurons, layer.ffn))
            for layer in shape.layers
        )
        smallest = replace(shape, layers=layers)
        whole, left = (table.predict(s) - table.fixed_ms for s in (shape, smallest))
        if left > self.keep_time * whole:
            raise RecipeError(
                f"prune-structure: keep_time {self.keep_time} cannot be reached, since the least "
                f"that layers keep takes {left / whole:.2f} of the time; choose more than that"
            )
