"""A LoRA adapter (Hu et al. 2021, arXiv:2106.09685) as peft saves it, joined with its model."""

import hashlib
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from miaotui.errors import ModelError
from miaotui.models.config import CONFIG_FILE, read_object

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


def key_of(folder: Path, base: Path) -> str:
    """What names the two merged: other files make another."""
    digest = hashlib.sha256(str(base).encode())
    for path in sorted(base.glob("*.safetensors")):
        facts = path.stat()
        digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    for name in (ADAPTER_FILE, _WEIGHTS, CONFIG_FILE):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:24]


@dataclass(frozen=True)
class Adapter:
    """`tensors` have the names of the whole model; what is of LoRA has its ending. `architecture`
    is how transformers' classes for its task end."""

    folder: Path
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    architecture: str

    def head_settings(self, config: Any) -> dict[str, Any]:
        """Config entries of the head that was trained with it, on a model of this config."""
        import transformers

        with torch.device("meta"):
            loader = getattr(transformers, f"AutoModelFor{self.architecture}")
            names = [n for n, m in loader.from_config(config).named_modules() if _is_linear(m)]
        head = self.tensors.get(f"{names[-1]}.weight")
        if head is None:
            raise ModelError(f"{self.folder} has no trained head ({names[-1]}); train one with it")
        labels = _label_names(self.folder)
        return {"num_labels": len(head)} | ({} if labels is None else {"id2label": labels})

    def merge_(self, module: nn.Module) -> None:
        """Adds it to transformers' model, in place."""
        state = module.state_dict()
        with torch.no_grad():
            for name, change in _changes(self.tensors, self.settings, self.folder).items():
                state[_known(name, state, self.folder)] += change
            for name, value in self.tensors.items():
                if not _PART.fullmatch(name):
                    state[_known(name, state, self.folder)].copy_(value)


def read_adapter(folder: Path) -> Adapter:
    """A LoRA adapter of a classifier or a tagger; another one is a ModelError."""
    settings = read_object(folder / ADAPTER_FILE)
    tensors = _tensors(folder, settings)
    return Adapter(folder, settings, tensors, _HEADS[settings["task_type"]])


def copy_tokenizer(base: Path, folder: Path, target: Path) -> None:
    """The adapter's own tokenizer where it has one."""
    for place in (base, folder):
        for path in (p for kind in _TOKENIZER_FILES for p in place.glob(kind)):
            shutil.copyfile(path, target / path.name)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


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
