"""Least-squares correction of a pruned encoder's output projections."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from miaotui.models.encoder import Encoder
from miaotui.models.mask import Mask
from miaotui.models.model import copy_of
from miaotui.models.observe import observe
from miaotui.tasks.base import EncodedRows

_DAMPING = 1e-3
_ENOUGH_TOKENS = 32_768
"""Ten times as many as the widest projection of BERT-base has inputs; long rows have more."""


def corrected(original: Encoder, smaller: Encoder, mask: Mask, rows: EncodedRows) -> Encoder:
    """`smaller` with each projection's weight and bias refitted, so that from the inputs kept it
    gives what the original gave from all of them, in least squares over the rows."""
    names = [
        f"layers.{i}.{part}"
        for i, layer in enumerate(original.shape.layers)
        for part, width in (("output", layer.heads), ("down", layer.ffn))
        if width
    ]
    enough = max(1, int(np.searchsorted(rows.starts, _ENOUGH_TOKENS)))
    moments = _moments(original, rows.select(range(min(len(rows), enough))), names)
    result = copy_of(smaller)
    state, before = result.state_dict(), original.state_dict()
    for name in names:
        index, part = int(name.split(".")[1]), name.split(".")[2]
        kept = _inner(mask.heads[index], original) if part == "output" else mask.neurons[index]
        weight, bias = refit(before[f"{name}.weight"], moments[name], kept)
        if len(kept):
            state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = before[f"{name}.bias"] + bias
    result.load_state_dict(state)
    return result


def refit(
    weight: Float[Tensor, "outputs inputs"],
    moment: Float[Tensor, "inputs_1 inputs_1"],
    kept: Int[Tensor, " kept"],
) -> tuple[Float[Tensor, "outputs kept"], Float[Tensor, " outputs"]]:
    """Weight of the kept inputs and a change of bias that best replace the whole; `moment` is of
    the inputs with a constant 1 after them."""
    ones = torch.tensor([len(moment) - 1])
    chosen = torch.cat([kept.long(), ones])
    inner = moment[chosen][:, chosen]
    scale = inner.diagonal().mean()
    damped = inner + _DAMPING * scale * torch.eye(len(chosen), dtype=inner.dtype)
    start = torch.cat([weight.double()[:, kept.long()], torch.zeros(len(weight), 1)], dim=1)
    whole = torch.cat([weight.double(), torch.zeros(len(weight), 1)], dim=1)
    # Damped towards the weights as they were, not towards zero.
    wanted = whole @ moment[:, chosen] + _DAMPING * scale * start
    solution = torch.linalg.solve(damped, wanted.T).T.float()
    return solution[:, :-1], solution[:, -1]


def _inner(heads: Int[Tensor, " kept"], encoder: Encoder) -> Int[Tensor, " inner"]:
    width = encoder.shape.head_dim
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _moments(encoder: Encoder, rows: EncodedRows, names: list[str]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}

    def observer(name: str, x: Tensor) -> None:
        wide = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        sums[name] = sums.get(name, 0) + (wide.T @ wide).double()

    observe(encoder, rows, names, observer)
    return {name: total / total[-1, -1] for name, total in sums.items()}
