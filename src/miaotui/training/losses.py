"""Losses of fine-tuning and distillation."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from miaotui.errors import RecipeError
from miaotui.models.loss import row_losses
from miaotui.tasks.text_classification import Problem


def hard_loss(
    problem: Problem,
    logits: Float[Tensor, "batch labels"],
    targets: Tensor,
    labelled: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """The task's loss, a mean over the labelled rows; what stands in the others is never read."""
    losses = row_losses(problem, logits[labelled], targets[labelled])
    return losses.sum() / labelled.sum().clamp_min(1)


def soft_loss(
    problem: Problem,
    logits: Float[Tensor, "batch labels"],
    teacher: Float[Tensor, "batch labels"],
    temperature: float,
) -> Float[Tensor, " batch"]:
    """Distance to the teacher's answers (Hinton et al. 2015 for single labels), row by row."""
    if problem is Problem.SINGLE_LABEL:
        student = F.log_softmax(logits / temperature, dim=1)
        goal = F.log_softmax(teacher / temperature, dim=1)
        kl = F.kl_div(student, goal, reduction="none", log_target=True).sum(dim=1)
        return kl * temperature**2
    if problem is Problem.MULTI_LABEL:
        goal = torch.sigmoid(teacher)
        return F.binary_cross_entropy_with_logits(logits, goal, reduction="none").mean(dim=1)
    return ((logits - teacher) ** 2).mean(dim=1)


def hidden_loss(
    student: Float[Tensor, "batch layers hidden"],
    teacher: Float[Tensor, "batch layers hidden"],
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
