"""A LoRA adapter (Hu et al. 2021, arXiv:2106.09685) as peft saves it, merged into its model."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.config import CONFIG_FILE, read_object
from miaotui.paths import cache_folder

ADAPTER_FILE = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_HEADS = {"SEQ_CLS": "SequenceClassification", "TOKEN_CLS": "TokenClassification"}
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<which>[AB])(\.weight)?")
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")


def is_adapter(folder: Path) -> bool:
    """Whether an adapter lies there without the model that it belongs to."""
    return (folder / ADAPTER_FILE).is_file() and not list(folder.glob("model*.safetensors"))


def base_of(folder: Path) -> str:
    """The model that the adapter was trained on: a folder or a hub id."""
    base = read_object(folder / ADAPTER_FILE).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder / ADAPTER_FILE} does not say which model the adapter is of")
    return base


def merged(folder: Path, base: Path) -> Path:
    """A transformers folder of the two as one, in the user's cache; made where it is not there."""
    target = cache_folder("merged") / _key(folder, base)
    if not target.exists():
        draft = target.with_name(f".{os.getpid()}-{target.name}")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            _write(folder, base, draft)
            os.replace(draft, target)
        except OSError as error:
            raise ModelError(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _key(folder: Path, base: Path) -> str:
    digest = hashlib.sha256(str(base).encode())
    for path in sorted(base.glob("*.safetensors")):
        facts = path.stat()
        digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    for name in (ADAPTER_FILE, _WEIGHTS, CONFIG_FILE):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:24]


def _write(folder: Path, base: Path, target: Path) -> None:
    import transformers

    settings = read_object(folder / ADAPTER_FILE)
    tensors = _tensors(folder, settings)
    loader = getattr(transformers, f"AutoModelFor{_HEADS[settings['task_type']]}")
    names = _label_names(folder)
    module = loader.from_pretrained(
        base,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        num_labels=_labels(loader, base, tensors, folder),
        **({} if names is None else {"id2label": names}),
    )
    state = module.state_dict()
    with torch.no_grad():
        for name, change in _changes(tensors, settings, folder).items():
            state[_known(name, state, folder)] += change
        for name, value in tensors.items():
            if not _PART.fullmatch(name):
                state[_known(name, state, folder)].copy_(value)
    module.save_pretrained(target)
    for place in (base, folder):  # the adapter's own tokenizer is the later word
        for path in (p for kind in _TOKENIZER_FILES for p in place.glob(kind)):
            shutil.copyfile(path, target / path.name)


def _tensors(folder: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """By the names of the whole model, what is of LoRA with its ending."""
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if kind != "LORA" or settings.get("use_dora"):
        raise ModelError(
            f"{folder} holds an adapter of the kind {'DoRA' if kind == 'LORA' else kind}; merge it "
            "into its model with peft (merge_and_unload) and give the folder of the whole"
        )
    if task not in _HEADS:
        raise ModelError(f"{folder} holds an adapter for {task}; known: {', '.join(_HEADS)}")
    try:
        stored = load_file(folder / _WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / _WEIGHTS}: {str(error).splitlines()[0]}") from error
    return {name.removeprefix(_PREFIX): tensor.float() for name, tensor in stored.items()}


def _changes(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], folder: Path
) -> dict[str, Tensor]:
    """What is added to each weight: B A, scaled."""
    changes = {}
    for name, down in tensors.items():
        part = _PART.fullmatch(name)
        if part is None or part["which"] != "A":
            continue
        up = tensors.get(name.replace(f"lora_{part['kind'] or ''}A", f"lora_{part['kind'] or ''}B"))
        if up is None:
            raise ModelError(f"{folder / _WEIGHTS} has {name} and not its second half")
        change = _scale(part["module"], len(down), settings) * (up @ down)
        turned = bool(part["kind"]) or settings.get("fan_in_fan_out")
        changes[f"{part['module']}.weight"] = change.T if turned else change
    return changes


def _scale(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    patterns = settings.get("alpha_pattern") or {}
    own = (alpha for name, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?{name}", module))
    alpha = float(next(own, settings.get("lora_alpha", rank)))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _known(name: str, state: Mapping[str, Tensor], folder: Path) -> str:
    if name not in state:
        raise ModelError(f"{folder} changes {name}, which its model does not have")
    return name


def _label_names(folder: Path) -> dict[int, str] | None:
    path = folder / CONFIG_FILE
    names = read_object(path).get("id2label") if path.is_file() else None
    return {int(i): str(name) for i, name in names.items()} if isinstance(names, dict) else None


def _labels(loader: Any, base: Path, tensors: Mapping[str, Tensor], folder: Path) -> int:
    """As many as the head that was trained with the adapter has outputs."""
    from transformers import AutoConfig

    with torch.device("meta"):
        blank = loader.from_config(AutoConfig.from_pretrained(base))
    last = [name for name, module in blank.named_modules() if isinstance(module, nn.Linear)][-1]
    head = tensors.get(f"{last}.weight")
    if head is None:
        raise ModelError(f"{folder} has no trained head ({last}); train one with the adapter")
    return len(head)
