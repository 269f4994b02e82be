"""A technique: frozen settings and what they do to a model."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from miaotui.errors import DataError, RecipeError

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


def first_rows(technique: str, calibration: "Calibration", count: int) -> "Calibration":
    """At most `count` calibration rows; a DataError where there are none to look at."""
    if not len(calibration.rows):
        raise DataError(f"{technique}: there are no calibration rows; give it training rows")
    return calibration.first(count)


SkippedIn = Literal["fp32", "bf16"]
"""How linears compute that a quantization leaves out; bf16 only where the engine can by linear."""


def check_skip(technique: str, model: "Model", skip: tuple[str, ...]) -> None:
    """Refuses by name a prefix that no module of the model starts with."""
    names = [name for name, _ in model.module.named_modules()]
    for prefix in skip:
        if not any(name.startswith(prefix.rstrip(".")) for name in names):
            raise RecipeError(
                f"{technique}: skip names {prefix}, which no module starts with; "
                "give prefixes such as layers.0. or layers.1.down"
            )
