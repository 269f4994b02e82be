"""The model noun, and the rows that a technique may look at."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder
from miaotui.models.latency_table import LatencyTable
from miaotui.models.precision import Precision
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.text_classification import TextClassification


class PaddedClassifier(nn.Module):
    """A transformers classifier of a family without adapter: engines, quantization, buckets.

    Padding gets the family's own id, since some find a row's last token by it.
    """

    def __init__(self, module: nn.Module, takes_types: bool) -> None:
        super().__init__()
        self.module = module
        self.takes_types = takes_types
        self.pad_id: int | None = getattr(getattr(module, "config", None), "pad_token_id", None)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Int[Tensor, "batch tokens"],
        types: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch labels"]:
        if self.pad_id:
            ids = torch.where(mask > 0, ids, self.pad_id)
        named = {"token_type_ids": types} if self.takes_types and types is not None else {}
        return self.module(input_ids=ids, attention_mask=mask, **named).logits  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Model:
    """A classifier, its task and its precision. Techniques return a new one."""

    module: Encoder | PaddedClassifier
    task: TextClassification
    family: str
    precision: Precision = Precision()

    @property
    def encoder(self) -> Encoder:
        """The module, where its family has an adapter; a ModelError otherwise."""
        if isinstance(self.module, Encoder):
            return self.module
        raise ModelError(
            f"{self.family} has no adapter, so it cannot be pruned, factorized, distilled or "
            "packed; engines, quantization and buckets work"
        )

    @property
    def has_adapter(self) -> bool:
        return isinstance(self.module, Encoder)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def with_module(self, module: Encoder) -> "Model":
        """The same task with another module; precision is forgotten, since names may differ."""
        return replace(self, module=module, precision=Precision())


@dataclass(frozen=True)
class Calibration:
    """What a technique may look at: encoded rows and their targets, from the training split.

    `latency` is filled by the search once it has timed blocks.
    `targets` is int64 [rows], float32 [rows, labels] or float32 [rows], by the task's problem.
    """

    rows: EncodedRows
    targets: ndarray
    latency: LatencyTable | None = None

    def first(self, count: int) -> "Calibration":
        count = min(count, len(self.rows))
        chosen = self.rows.select(range(count))
        return Calibration(chosen, self.targets[:count], self.latency)


def linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer by its module name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}


def copy_of(encoder: Encoder) -> Encoder:
    """An independent encoder of the same shape and weights."""
    with torch.random.fork_rng(devices=[]):
        copy = Encoder(encoder.shape)
    copy.load_state_dict(encoder.state_dict())
    return copy.eval()
