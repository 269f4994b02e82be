"""The model noun, and the rows that a technique may look at."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.encoder import Encoder
from miaotui.models.latency_table import LatencyTable
from miaotui.models.precision import Precision
from miaotui.models.readouts import logits_of
from miaotui.models.shape import EncoderShape
from miaotui.models.ties import tie_, ties
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Targets
from miaotui.tasks.task import Task


class PaddedModel(nn.Module):
    """A transformers model of a family without adapter: engines, quantization, buckets.

    Padding gets the family's own id, since some find a row's last token by it.
    """

    def __init__(self, module: nn.Module, takes_types: bool, reads_tokens: bool = False) -> None:
        super().__init__()
        self.module = module
        self.takes_types = takes_types
        self.reads_tokens = reads_tokens
        self.pad_id: int | None = getattr(getattr(module, "config", None), "pad_token_id", None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What `forward` takes, in order, by the names of `layouts.Batch.inputs` and `mask`."""
        types = ("types",) if self.takes_types else ()
        return ("ids", "mask", *types, *(("readout",) if self.reads_tokens else ()))

    def forward(
        self, ids: Int[Tensor, "batch tokens"], mask: Int[Tensor, "batch tokens"], *more: Tensor
    ) -> Float[Tensor, "batch labels"] | Float[Tensor, "batch readouts labels"]:
        given = dict(zip(self.inputs[2:], more, strict=True))
        if self.pad_id:
            ids = torch.where(mask > 0, ids, self.pad_id)
        named = {"token_type_ids": given["types"]} if "types" in given else {}
        values = logits_of(self.module, {"input_ids": ids, "attention_mask": mask, **named})
        if "readout" not in given:
            return values
        places = given["readout"][:, :, None].expand(-1, -1, values.shape[-1])
        return values.gather(1, places)


@dataclass(frozen=True)
class Model:
    """A model, its task and its precision. Techniques return a new one."""

    module: Encoder | PaddedModel
    task: Task
    family: str
    precision: Precision = Precision()
    notes: tuple[str, ...] = ()
    """What is to be said about how it was loaded."""

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
    def shape(self) -> EncoderShape | None:
        """What it is built of; None where its family has no adapter."""
        return self.module.shape if isinstance(self.module, Encoder) else None

    @property
    def has_adapter(self) -> bool:
        return isinstance(self.module, Encoder)

    @property
    def can_shrink(self) -> bool:
        """Whether parts of it can be removed, factorized and distilled."""
        return self.has_adapter

    @property
    def can_pack(self) -> bool:
        """Whether several rows can stand in one block."""
        return self.has_adapter

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def with_module(self, module: Encoder) -> "Model":
        """The same task with another module; precision is forgotten, since names may differ."""
        return replace(self, module=module, precision=Precision())


@dataclass(frozen=True)
class Calibration:
    """What a technique may look at: encoded rows and their targets, from the training split.

    `latency` is filled by the search once it has timed blocks. `targets` has one for each readout
    of each row.
    """

    rows: EncodedRows
    targets: Targets
    latency: LatencyTable | None = None

    def first(self, count: int) -> "Calibration":
        count = min(count, len(self.rows))
        chosen = range(count)
        return Calibration(self.rows.select(chosen), self.targets.select(chosen), self.latency)


def linears(module: nn.Module) -> dict[str, nn.Linear]:
    """Every linear layer by its module name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}


def copy_of(encoder: Encoder) -> Encoder:
    """An independent encoder of the same shape and weights; what layers share, they share there
    too."""
    copy = encoder.blank(encoder.shape)
    tie_(copy, ties(encoder))
    copy.load_state_dict(encoder.state_dict())
    return copy.eval()
