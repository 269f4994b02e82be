"""A transformers model's config: read as people write it, refused by name where it cannot be."""

import json
import re
from pathlib import Path
from typing import Any

from miaotui.errors import ModelError

CONFIG_FILE = "config.json"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


def read_config(folder: Path) -> Any:
    """transformers' own config object. Class names in a list, and numbers in quotes where numbers
    belong, are read as meant; weights of a foreign quantizer, or attention that transformers has no
    more, are a ModelError."""
    from transformers import AutoConfig

    path = folder / CONFIG_FILE
    facts = read_object(path)
    _refuse_quantized(folder, facts)
    _refuse_relative(folder, facts)
    try:
        meant = _as_meant(facts)
        if meant == facts:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return _kind(meant).from_dict(meant)
    except strange() as error:
        reason = ": ".join(line.strip(" :") for line in str(error).strip().splitlines()[:2])
        raise ModelError(f"{path}: {reason}") from error


def strange(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What transformers and torch raise of a config that they cannot make a model of: these share
    no base but Exception; and `more`."""
    from huggingface_hub.errors import StrictDataclassError

    return (
        *more,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; anything else is a ModelError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def _refuse_quantized(folder: Path, facts: dict[str, Any]) -> None:
    quantizer = facts.get("quantization_config")
    if quantizer:
        method = quantizer.get("quant_method") if isinstance(quantizer, dict) else None
        raise ModelError(
            f"{folder} holds weights quantized by {method or 'another tool'}; give the float model "
            "that they were made of"
        )


def _refuse_relative(folder: Path, facts: dict[str, Any]) -> None:
    kind = facts.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise ModelError(
            f"{folder} was trained with relative positions (position_embedding_type {kind}), which "
            "transformers 5 computes no more: its answers would be others; it cannot be used"
        )


def _as_meant(facts: dict[str, Any]) -> dict[str, Any]:
    names = facts.get("id2label")
    meant = dict(facts)
    if isinstance(names, list):
        meant["id2label"] = dict(enumerate(names))
    quoted = {key for key, value in facts.items() if _is_quoted(value)}
    if quoted:
        usual = _kind(facts)()
        for key in quoted:
            if isinstance(getattr(usual, key, None), int | float):
                number = float(facts[key])
                meant[key] = int(number) if number.is_integer() else number
    return meant


def _is_quoted(value: object) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


def _kind(facts: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    name = facts.get("model_type")
    if name not in CONFIG_MAPPING:
        raise ValueError(f"there is no model_type {name!r} in transformers")
    return CONFIG_MAPPING[name]
