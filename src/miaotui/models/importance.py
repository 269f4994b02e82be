"""How much each head and each neuron matters to the task's loss."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from miaotui.models.encoder import BiasOnly, Encoder
from miaotui.models.loss import LOSSES
from miaotui.models.model import Calibration
from miaotui.models.observe import by_length, padded, read
from miaotui.tasks.task import LossName


@dataclass(frozen=True)
class Importance:
    """Scores by layer; the sum over what is removed estimates the rise of the loss."""

    heads: tuple[Float[Tensor, " heads"], ...]
    neurons: tuple[Float[Tensor, " ffn"], ...]


def fisher_importance(encoder: Encoder, rows: Calibration, loss: LossName) -> Importance:
    """Mean squared gradient, row by row, of the loss to a factor on each head and neuron.

    The diagonal of the empirical Fisher information (Kwon et al. 2022, equation 8).
    """
    sums = [torch.zeros(w) for w in _widths(encoder)]
    for indices in by_length(rows.rows):
        inputs = _gated_inputs(encoder, rows, indices.tolist(), loss)
        for total, x in zip(sums, inputs, strict=True):
            if x is not None and x.grad is not None:
                factor = (x.detach() * x.grad).sum(dim=1)
                total += (_by_head(encoder, factor, total) ** 2).sum(dim=0)
    return _paired([total / len(rows.rows) for total in sums])


def activation_importance(encoder: Encoder, rows: Calibration, loss: LossName) -> Importance:
    """Mean squared contribution to the residual stream: activation² times the squared norm of the
    column that reads it."""
    sums = [torch.zeros(w) for w in _widths(encoder)]
    norms = [_column_norms(module) for module in _projections(encoder)]
    with torch.no_grad():
        for indices in by_length(rows.rows):
            inputs = _gated_inputs(encoder, rows, indices.tolist(), None)
            for total, x, norm in zip(sums, inputs, norms, strict=True):
                if x is not None and norm is not None:
                    energy = (x.detach() ** 2).sum(dim=1) * norm
                    total += _by_head(encoder, energy, total).sum(dim=0)
    return _paired([total / len(rows.rows) for total in sums])


def _projections(encoder: Encoder) -> list[nn.Module]:
    """Attention output and FFN down of each layer, in turn."""
    projections = []
    for i in range(len(encoder.layers)):
        projections += [
            encoder.get_submodule(f"layers.{i}.output"),
            encoder.get_submodule(f"layers.{i}.down"),
        ]
    return projections


def _widths(encoder: Encoder) -> list[int]:
    return [width for layer in encoder.shape.layers for width in (layer.heads, layer.ffn)]


def _column_norms(module: nn.Module) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return None if weight is None else (weight.detach() ** 2).sum(dim=0)


def _by_head(encoder: Encoder, values: Tensor, total: Tensor) -> Tensor:
    """[batch, inner] summed to [batch, heads] for attention; neurons as they are."""
    if values.shape[1] == len(total):
        return values
    by_head = values.reshape(len(values), len(total), encoder.shape.head_dim)
    return by_head.sum(dim=2)


def _gated_inputs(
    encoder: Encoder, rows: Calibration, indices: list[int], loss: LossName | None
) -> list[Tensor | None]:
    """The projections' inputs on these rows, with gradients of the loss if one is named (of a row's
    readouts their mean); no gradient of a weight is computed."""
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if loss is not None:
            inputs[0].requires_grad_()  # the first layer's own, where gradients end
            inputs[0].retain_grad()
        kept[module] = inputs[0]

    projections = _projections(encoder)
    trained = [p.requires_grad_(False) for p in encoder.parameters() if p.requires_grad]
    handles = [
        m.register_forward_pre_hook(keep) for m in projections if not isinstance(m, BiasOnly)
    ]
    try:
        outputs = encoder(*padded(rows.rows, indices))
        if loss is not None and kept:
            chosen, targets = rows.rows.select(indices), rows.targets.select(indices)
            losses = LOSSES[loss].hard(outputs[read(chosen)], torch.from_numpy(targets.values))
            counts = torch.from_numpy(np.repeat(targets.lengths, targets.lengths))
            torch.autograd.backward((losses / counts).sum())
    finally:
        for parameter in trained:
            parameter.requires_grad_()
        for handle in handles:
            handle.remove()
    return [kept.get(module) for module in projections]


def _paired(scores: list[Tensor]) -> Importance:
    return Importance(tuple(scores[0::2]), tuple(scores[1::2]))
