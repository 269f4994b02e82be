"""A technique: frozen settings and what they do to a model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from miaotui.errors import DataError, RecipeError
from miaotui.models.precision import Kind

if TYPE_CHECKING:
    from miaotui.models.hooks import Hooks
    from miaotui.models.model import Calibration, Model


class TechniqueBase(BaseModel, ABC):
    """Frozen. `prepare` never changes the model it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantizes: ClassVar[Kind | None] = None
    """The number format that it puts linears in; None of one that changes weights or shapes."""
    uses_latency: ClassVar[bool] = False
    """Whether it goes by the latency table."""
    skips: ClassVar[bool] = False
    """Whether it can leave linears out; see `Int8`."""
    trains: ClassVar[bool] = False

    name: str

    @property
    def title(self) -> str:
        """The technique in a word or two, for progress and tables."""
        return self.name

    def variants(self) -> list[Self]:
        """The same with other settings that are worth trying once it led."""
        return []

    def for_layers(self, left: Sequence[str]) -> Self:
        """The same for a model of which only these layers ("layers.0.") are left."""
        return self

    def skipping(self, prefixes: tuple[str, ...], compute_in: "SkippedIn") -> Self:
        """The same, with linears left out whose names start so; where `skips` is true."""
        return self

    def layers_left(self, layers: Sequence[int]) -> list[int]:
        """Of those layers, by the numbers that they had at first, the ones that stay."""
        return list(layers)

    @abstractmethod
    def prepare(self, model: "Model", calibration: "Calibration") -> "Model":
        """The model with the technique applied, before any recovery."""

    @property
    def acts_in_training(self) -> bool:
        """Whether it does its work in the training that follows it, which it then needs."""
        return False

    def open_(self, student: "Model", calibration: "Calibration") -> "Hooks":
        """Puts hooks on the model that is about to be trained; where `acts_in_training`."""
        raise RecipeError(f"{self.name} does nothing while a model is trained")

    def finish(self, model: "Model", hooks: "Hooks") -> "Model":
        """The trained model with all that the hooks did to it made part of it."""
        return model


def first_rows(technique: str, calibration: "Calibration", count: int) -> "Calibration":
    """At most `count` calibration rows; a DataError where there are none to look at."""
    if not len(calibration.rows):
        raise DataError(f"{technique}: there are no calibration rows; give it training rows")
    return calibration.first(count)


SkippedIn = Literal["fp32", "bf16"]
"""How linears compute that a quantization leaves out; bf16 only where the engine can by linear."""


class Int8(TechniqueBase):
    """int8 weights. Linears whose names start with one of `skip` compute as `skipped_in` says."""

    skips: ClassVar[bool] = True
    skip: tuple[str, ...] = ()
    skipped_in: SkippedIn = "fp32"

    def for_layers(self, left: Sequence[str]) -> Self:
        return self.model_copy(update={"skip": tuple(s for s in self.skip if s in left)})

    def skipping(self, prefixes: tuple[str, ...], compute_in: SkippedIn) -> Self:
        return self.model_copy(update={"skip": prefixes, "skipped_in": compute_in})


def check_skip(technique: str, model: "Model", skip: tuple[str, ...]) -> None:
    """Refuses by name a prefix that no module of the model starts with."""
    names = [name for name, _ in model.module.named_modules()]
    for prefix in skip:
        if not any(name.startswith(prefix.rstrip(".")) for name in names):
            raise RecipeError(
                f"{technique}: skip names {prefix}, which no module starts with; "
                "give prefixes such as layers.0. or layers.1.down"
            )
