"""Whether a model answers a row beside others, padded, as transformers answers it alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from miaotui.errors import ModelError, first_line
from miaotui.models.config import strange
from miaotui.models.readouts import reads_end_token

if TYPE_CHECKING:
    from miaotui.models.model import PaddedModel

_TEXT = "a film, and then another one that is longer than the first"
_CLOSE = 1e-3
"""Of the largest of its logits, and absolute where these are below 1."""


def check_alone(padded: "PaddedModel", tokenizer: Tokenizer, name: str) -> None:
    """A model of another answer is a ModelError: one whose tokens are mixed with padding, say."""
    config: Any = padded.module.config
    _check_end_token(padded.module, tokenizer, name)
    failed: Exception | None = None
    for short, long in _pairs(tokenizer):
        try:
            alone, beside = _alone(padded, short), _beside(padded, short, long)
        except strange() as error:  # too short for it, it may be
            failed = error
            continue
        difference, size = (beside - alone).abs().max(), alone.abs().max()
        if not difference <= _CLOSE * max(1.0, float(size)):
            raise ModelError(
                f"{name}: {config.model_type} answers a text otherwise where longer ones are "
                "beside it (padding changes its answers), so it cannot be used"
            )
        return
    if failed is not None:
        raise ModelError(f"{name}: transformers cannot run this model: {first_line(failed)}")


def _check_end_token(module: Any, tokenizer: Tokenizer, name: str) -> None:
    end = module.config.eos_token_id
    if reads_end_token(module) and end not in tokenizer.encode("").ids:
        raise ModelError(
            f"{name}: its answer is read at the end token (eos_token_id {end}), which its "
            "tokenizer does not add to a text; give it the tokenizer that it was trained with"
        )


def _pairs(tokenizer: Tokenizer) -> Iterator[tuple[Encoding, Encoding]]:
    """A row and a longer one; then longer ones."""
    for times in (1, 4):
        short, long = (tokenizer.encode(" ".join([_TEXT] * n)) for n in (times, 2 * times))
        if 0 < len(short) < len(long):
            yield short, long


@torch.inference_mode()
def _alone(padded: "PaddedModel", row: Encoding) -> Tensor:
    given = {"input_ids": torch.tensor([row.ids])}
    if padded.takes_types:
        given["token_type_ids"] = torch.tensor([row.type_ids])
    logits: Tensor = padded.module(**given).logits[0]
    return logits


@torch.inference_mode()
def _beside(padded: "PaddedModel", short: Encoding, long: Encoding) -> Tensor:
    """The short row's answer in a batch with the long one and a blank one, as buckets have it."""
    most = len(long)
    ids, mask, types = (torch.zeros((3, most), dtype=torch.long) for _ in range(3))
    for i, row in enumerate((short, long)):
        ids[i, : len(row)] = torch.tensor(row.ids)
        types[i, : len(row)] = torch.tensor(row.type_ids)
        mask[i, : len(row)] = 1
    mask[2, 0] = 1
    readout = torch.arange(len(short)).expand(3, -1)
    known = {"ids": ids, "mask": mask, "types": types, "readout": readout}
    logits: Tensor = padded(*(known[name] for name in padded.inputs))[0]
    return logits
