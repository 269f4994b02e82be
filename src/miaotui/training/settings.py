"""Frozen settings of a training."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeIs

from miaotui.models.precision import Kind


class Training(BaseModel):
    """What every training has. `patience` counts evaluations without a better metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantizes: ClassVar[Kind | None] = None
    uses_latency: ClassVar[bool] = False
    skips: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    """Facts as of a technique: a step of a recipe is told by them."""

    epochs: float = Field(default=3.0, gt=0)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup: float = Field(default=0.06, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    evaluations_per_epoch: int = Field(default=2, ge=1)
    patience: int = Field(default=3, ge=1)
    freeze_embeddings: bool = True
    seed: int = 0


class FineTuning(Training):
    """Training on labels alone, with the dropout that the model has."""

    freeze_embeddings: bool = False


class Distillation(Training):
    """Training towards the original's outputs, without dropout: they say more than labels do, and
    drawing its masks takes a sixth of a step on a CPU.

    `alpha_hard` weighs the loss on labels (labelled rows only), `hidden_weight` the distance of
    the readout tokens' hidden states where layers map, relative to the teacher's variance.
    """

    kind: Literal["distil"] = "distil"
    title: ClassVar[str] = "distil"
    learning_rate: float = Field(default=2e-4, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    temperature: float = Field(default=2.0, gt=0)
    alpha_hard: float = Field(default=0.1, ge=0)
    hidden_weight: float = Field(default=1.0, ge=0)


def is_distillation(settings: Training) -> TypeIs[Distillation]:
    """Whether there is a teacher to learn from."""
    return isinstance(settings, Distillation)
