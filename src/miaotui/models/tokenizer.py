"""The tokenizer of a transformers folder, its settings obeyed, and the longest row it allows."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from miaotui.errors import ModelError, first_line
from miaotui.models.config import read_object, strange
from miaotui.models.families import family_of
from miaotui.quiet import hushed_transformers
from miaotui.tasks.saved import TOKENIZER_FILE, read_tokenizer

LONGEST = 512
"""Tokens of a row where neither model nor tokenizer says."""
_SETTINGS = "tokenizer_config.json"
_VOCABULARIES = ("vocab*.txt", "vocab*.json", "*.model")


def load_tokenizer(folder: Path, config: Any) -> Tokenizer:
    """The fast tokenizer with its settings obeyed, as transformers opens it: case, accents, the
    space before the first word, the side that is cut. Without settings, tokenizer.json as it is."""
    path = folder / TOKENIZER_FILE
    if path.is_file():
        plain, settings = read_tokenizer(path), folder / _SETTINGS
        if not settings.is_file():
            return plain
        read_object(settings)
    elif not any(file for kind in _VOCABULARIES for file in folder.glob(kind)):
        raise ModelError(
            f"{folder} has no tokenizer; expected tokenizer.json: save it there with the "
            "tokenizer's save_pretrained"
        )
    fast = _opened(folder, config)
    if not getattr(fast, "is_fast", False):
        raise ModelError(f"{folder}: its tokenizer has no fast form (tokenizer.json)")
    tokenizer: Tokenizer = fast.backend_tokenizer
    tokenizer.enable_truncation(LONGEST, direction=fast.truncation_side)
    return tokenizer


def _opened(folder: Path, config: Any) -> Any:
    """As transformers opens it, which converts what is not a tokenizer.json yet."""
    from transformers import AutoTokenizer

    try:
        with hushed_transformers():
            return AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    except strange(ImportError) as error:
        pieces = next(folder.glob("*.model"), None)
        if pieces and not (folder / TOKENIZER_FILE).is_file() and not find_spec("sentencepiece"):
            raise ModelError(
                f"{folder}: to read its tokenizer ({pieces.name}) the package sentencepiece is "
                "needed: pip install sentencepiece, or put its tokenizer.json there"
            ) from error
        raise ModelError(f"{folder}: no usable tokenizer: {first_line(error)}") from error


def longest_row(folder: Path, config: Any) -> int:
    """Tokens the model can take: by its positions and its tokenizer's settings, and 512 where
    neither says."""
    family = family_of(config)
    limits = [family.shape(config).max_tokens] if family else []
    positions = getattr(config, "max_position_embeddings", None)
    if not family and isinstance(positions, int) and positions > 0:
        limits.append(positions)
    settings = folder / _SETTINGS
    if settings.is_file():
        facts = read_object(settings)
        stated = facts.get("model_max_length", facts.get("max_len"))
        if isinstance(stated, int | float) and 0 < stated < 1e6:
            limits.append(int(stated))
    return min(limits, default=LONGEST)


def room_of(module: Any) -> int | None:
    """Rows that a module's table of positions has room for, where positions begin after the padding
    id, as those of RoBERTa's kin do, which their config does not say; None of others."""
    from torch import nn

    tables = (
        table.num_embeddings - table.padding_idx - 1
        for name, table in module.named_modules()
        if isinstance(table, nn.Embedding)
        and table.padding_idx is not None
        and name.endswith("position_embeddings")
    )
    return min(tables, default=None)
