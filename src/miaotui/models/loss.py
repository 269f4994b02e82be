"""Losses by name, readout by readout: what training minimises and importance is measured by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from miaotui.tasks.task import LossName

Values = Float[Tensor, "readouts width"]
Losses = Float[Tensor, " readouts"]


@dataclass(frozen=True)
class Loss:
    """`hard(outputs, targets)` against labels, `soft(outputs, teacher, temperature)` against a
    teacher's outputs (Hinton et al. 2015 for single labels)."""

    hard: Callable[[Values, Tensor], Losses]
    soft: Callable[[Values, Values, float], Losses]


def _cross_entropy(outputs: Values, targets: Tensor) -> Losses:
    return F.cross_entropy(outputs, targets.long(), reduction="none")


def _divergence(outputs: Values, teacher: Values, temperature: float) -> Losses:
    student = F.log_softmax(outputs / temperature, dim=1)
    goal = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(student, goal, reduction="none", log_target=True).sum(dim=1) * temperature**2


def _binary_cross_entropy(outputs: Values, targets: Tensor) -> Losses:
    bce = F.binary_cross_entropy_with_logits(outputs, targets.float(), reduction="none")
    return bce.mean(dim=1)


def _binary_soft(outputs: Values, teacher: Values, temperature: float) -> Losses:
    return _binary_cross_entropy(outputs, torch.sigmoid(teacher))


def _squared_error(outputs: Values, targets: Tensor) -> Losses:
    return (outputs[:, 0] - targets.float()) ** 2


def _squared_soft(outputs: Values, teacher: Values, temperature: float) -> Losses:
    return ((outputs - teacher) ** 2).mean(dim=1)


LOSSES: dict[LossName, Loss] = {
    "cross-entropy": Loss(_cross_entropy, _divergence),
    "binary-cross-entropy": Loss(_binary_cross_entropy, _binary_soft),
    "squared-error": Loss(_squared_error, _squared_soft),
}
