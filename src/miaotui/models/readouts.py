"""What transformers' own heads read of padded rows: what they read of each row alone.

Some heads read the last place of a batch, be it padding (XLNet), or all end tokens of a batch, as
many of each row (T5, BART and their kin): these are given a row's own last or last end token.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_START_IS_LAST = ("mbart", "plbart")
"""Their decoders begin with a row's last token (the language) in place of a start token."""


def reads_end_token(module: Any) -> bool:
    """Whether a classifier's head reads a row's last end token, as those of encoder-decoders do."""
    config = getattr(module, "config", None)
    whole = bool(getattr(config, "is_encoder_decoder", False))
    return whole and hasattr(module, "classification_head")


def logits_of(module: Any, given: dict[str, Tensor]) -> Float[Tensor, "batch *rest labels"]:
    """transformers' logits for rows padded on the right; `given` are its inputs by its names."""
    if reads_end_token(module):
        return _of_end_token(module, given["input_ids"], given["attention_mask"])
    if hasattr(module, "sequence_summary") and hasattr(module, "logits_proj"):
        return _of_xlnet(module, given)
    logits: Tensor = module(**given).logits
    return logits


def _of_end_token(
    module: Any, ids: Int[Tensor, "batch tokens"], mask: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch labels"]:
    config = module.config
    if config.model_type in _START_IS_LAST:
        start = ids.gather(1, _last(mask))
    else:
        start = torch.full_like(ids[:, :1], config.decoder_start_token_id)
    states = module.base_model(
        input_ids=ids,
        attention_mask=mask,
        decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1),
        use_cache=False,
    ).last_hidden_state
    is_end = (ids == config.eos_token_id) & (mask > 0)
    logits: Tensor = module.classification_head(_at(states, _last(is_end))[:, 0])
    return logits


def _of_xlnet(module: Any, given: dict[str, Tensor]) -> Float[Tensor, "batch labels"]:
    mask = given["attention_mask"]
    shown = {**given, "attention_mask": mask.float()}  # which torch's exporter can subtract from 1
    states = module.base_model(**shown, use_mems=False)[0]
    kind = module.sequence_summary.summary_type
    if kind == "mean":
        weights = mask[:, :, None].to(states.dtype)
        read = (states * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
    else:
        read = states[:, :1] if kind == "first" else _at(states, _last(mask))
    logits: Tensor = module.logits_proj(module.sequence_summary(read))
    return logits


def _last(marked: Tensor) -> Int[Tensor, "batch 1"]:
    """The last marked place of each row."""
    places = torch.arange(marked.shape[1], device=marked.device)
    return (places * (marked > 0)).argmax(dim=1, keepdim=True)


def _at(states: Tensor, places: Int[Tensor, "batch 1"]) -> Float[Tensor, "batch 1 hidden"]:
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[-1]))
