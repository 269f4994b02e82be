"""What acts on an encoder in each step of its training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor

from miaotui.models.encoder import Encoder


class Hooks(ABC):
    """Opened on the encoder that is trained; it may hold some of it still, or change it."""

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """Whether it will change nothing any more. Weights from before are no candidates for the
        best ones."""

    @abstractmethod
    def on_step_(self, progress: float) -> None:
        """Runs after each step; `progress` is the share of the training that is done, 1 at its
        end."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that goes into a checkpoint beside the weights."""

    @abstractmethod
    def restore_(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave, on an encoder that has the weights of that moment."""


OpenHooks = Callable[[Encoder], Hooks | None]
