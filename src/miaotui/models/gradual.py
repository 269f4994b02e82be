"""Masks on heads and neurons that tighten while a model is trained."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from miaotui.models.encoder import BiasOnly, Encoder
from miaotui.models.hooks import Hooks
from miaotui.models.mask import Mask

_PARTS = ("heads", "neurons")
_DONE = "events"


class GradualMasks(Hooks):
    """Holds heads and neurons at zero where the projections after them read, so that no gradient
    reaches what is masked; what was masked stays so.

    `solve` gives the mask for a share of the time. At each of `events` moments, evenly over the
    first `until` of the training, the share falls to `keep_time + (1 - keep_time) * left³`, where
    `left` goes from 1 to 0 (Zhu and Gupta 2017, "To prune, or not to prune").
    """

    def __init__(
        self,
        encoder: Encoder,
        solve: Callable[[float], Mask],
        keep_time: float,
        events: int,
        until: float,
    ) -> None:
        self._encoder = encoder
        self._solve = solve
        self._keep_time, self._events, self._until = keep_time, events, until
        self._done = 0
        shape = encoder.shape
        self._kept = {
            f"{part}.{i}": torch.ones(width, dtype=torch.bool)
            for i, layer in enumerate(shape.layers)
            for part, width in zip(_PARTS, (layer.heads, layer.ffn), strict=True)
        }
        for i in range(len(shape.layers)):
            self._hold(encoder.get_submodule(f"layers.{i}.output"), f"heads.{i}", shape.head_dim)
            self._hold(encoder.get_submodule(f"layers.{i}.down"), f"neurons.{i}", 1)

    def _hold(self, projection: nn.Module, name: str, width: int) -> None:
        def masked(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            kept = self._kept[name]
            if kept.all():
                return inputs
            return inputs[0] * kept.to(inputs[0].dtype).repeat_interleave(width), *inputs[1:]

        if not isinstance(projection, BiasOnly):
            projection.register_forward_pre_hook(masked)

    @property
    def is_settled(self) -> bool:
        return self._done == self._events

    def on_step_(self, progress: float) -> None:
        due = self._events
        if progress < self._until:
            due = int(self._events * progress / self._until)
        if due > self._done:
            self._done = due
            self._tighten_()

    def _tighten_(self) -> None:
        left = 1 - self._done / self._events
        was_training = self._encoder.training
        self._encoder.eval()
        mask = self._solve(self._keep_time + (1 - self._keep_time) * left**3)
        self._encoder.train(was_training)
        for i, both in enumerate(zip(mask.heads, mask.neurons, strict=True)):
            for part, indices in zip(_PARTS, both, strict=True):
                chosen = torch.zeros_like(self._kept[f"{part}.{i}"])
                chosen[indices.long()] = True
                self._kept[f"{part}.{i}"] &= chosen

    def state(self) -> dict[str, Tensor]:
        return {_DONE: torch.tensor([self._done]), **self._kept}

    def restore_(self, state: Mapping[str, Tensor]) -> None:
        self._done = int(state[_DONE])
        self._kept = {name: kept for name, kept in state.items() if name != _DONE}


def mask_of(state: Mapping[str, Tensor]) -> Mask:
    """What the masks of a state keep, as indices."""
    layers = sum(name.startswith("heads.") for name in state)
    heads, neurons = (
        tuple(state[f"{part}.{i}"].nonzero().flatten() for i in range(layers)) for part in _PARTS
    )
    return Mask(heads, neurons)
