"""A technique: frozen settings and what they do to a model."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model


class TechniqueBase(BaseModel, ABC):
    """Frozen. `prepare` never changes the model it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        """The model with the technique applied, before any recovery."""

    def on_step_(self, model: "Model", progress: float) -> None:  # noqa: B027
        """Called after each step of a recovery that runs while the technique is open."""

    def finish(self, model: "Model") -> "Model":
        """The model once recoveries are over."""
        return model
