"""Losses of fine-tuning and distillation."""

from jaxtyping import Bool, Float
from torch import Tensor

from miaotui.errors import RecipeError
from miaotui.models.loss import LOSSES
from miaotui.tasks.task import LossName


def hard_loss(
    loss: LossName,
    outputs: Float[Tensor, "readouts width"],
    targets: Tensor,
    labelled: Bool[Tensor, " readouts"],
) -> Float[Tensor, ""]:
    """The task's loss, a mean over the labelled readouts; what stands in the others is never
    read."""
    losses = LOSSES[loss].hard(outputs[labelled], targets[labelled])
    return losses.sum() / labelled.sum().clamp_min(1)


def soft_loss(
    loss: LossName,
    outputs: Float[Tensor, "readouts width"],
    teacher: Float[Tensor, "readouts width"],
    temperature: float,
) -> Float[Tensor, " readouts"]:
    """Distance to the teacher's outputs, readout by readout."""
    return LOSSES[loss].soft(outputs, teacher, temperature)


def hidden_loss(
    student: Float[Tensor, "readouts layers hidden"],
    teacher: Float[Tensor, "readouts layers hidden"],
    variance: Float[Tensor, " layers"],
) -> Float[Tensor, ""]:
    """Mean squared distance of mapped hidden states over the teacher's variance in that layer."""
    distance = ((student - teacher) ** 2).mean(dim=(0, 2))
    return (distance / variance).mean()


def layer_map(teacher_layers: int, student_layers: int) -> list[int]:
    """For each student layer the teacher layer it is to resemble: uniform, the last to the last."""
    if student_layers > teacher_layers:
        raise RecipeError(
            f"distil: the student has {student_layers} layers, its teacher {teacher_layers}; "
            "hidden states map only onto as many layers or more, set hidden_weight to 0"
        )
    return [round((i + 1) * teacher_layers / student_layers) - 1 for i in range(student_layers)]
