"""The task's loss, row by row: what fine-tuning minimises and what importance is measured by."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from miaotui.tasks.text_classification import Problem


def row_losses(
    problem: Problem, logits: Float[Tensor, "batch labels"], targets: Tensor
) -> Float[Tensor, " batch"]:
    """Cross-entropy, mean binary cross-entropy or squared error against the labels."""
    if problem is Problem.SINGLE_LABEL:
        return F.cross_entropy(logits, targets.long(), reduction="none")
    if problem is Problem.MULTI_LABEL:
        bce = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
        return bce.mean(dim=1)
    return (logits[:, 0] - targets.float()) ** 2
