"""Checkpoints of a training: tensors in safetensors, numbers in JSON, written whole or not at all.

A checkpoint is the folder `checkpoint-<step>`; the best weights so far lie beside it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from miaotui.errors import OutputError
from miaotui.models.encoder import Encoder
from miaotui.models.hooks import Hooks
from miaotui.models.shape import shape_to_json
from miaotui.models.ties import each_once, load_each_
from miaotui.paths import whole_file
from miaotui.training.batches import TrainingRows
from miaotui.training.settings import Training

TRAINER_STATE = "trainer_state.json"
_BEST = "best.safetensors"
_RUN = "run.json"
_TENSORS = "state.safetensors"
_RNG = "rng"


def training_key(encoder: Encoder, data: TrainingRows, settings: Training) -> str:
    """Tells trainings apart: the shape trained, on what and how; 16 hex digits.

    Weights are left out: an encoder made again may differ in its last bits and may still go on.
    """
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(type(settings).__name__.encode() + shape_to_json(encoder.shape).encode())
    for array in (data.rows.ids, data.rows.starts, data.targets.values, data.labelled):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(  # noqa: PLR0913  (the parts of a checkpoint)
    work: Path,
    encoder: Encoder,
    optimizer: Any,
    trainer_state: Any,
    facts: Mapping[str, Any],
    acting: Mapping[str, Tensor],
) -> None:
    """Writes the newest checkpoint, then removes the older ones. `acting` is the hooks' state."""
    name = f"checkpoint-{trainer_state.global_step}"
    draft = work / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tensors = {f"model.{k}": v for k, v in each_once(encoder).items()}
    tensors |= {f"optimizer.{k}": v for k, v in _moments(optimizer).items()}
    tensors |= {f"hooks.{k}": v for k, v in acting.items()}
    tensors[_RNG] = torch.get_rng_state()
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, str(draft / _TENSORS))
    trainer_state.save_to_json(str(draft / TRAINER_STATE))
    (draft / _RUN).write_text(json.dumps(facts), encoding="utf-8")
    shutil.rmtree(work / name, ignore_errors=True)
    os.replace(draft, work / name)
    for old in work.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(work: Path, key: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of the training `key` and its facts; None where there is none."""
    folders = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for folder in reversed(folders):
        try:
            facts = json.loads((folder / _RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and facts.get("key") == key:
            return folder, facts
    return None


def restore_model_(folder: Path, encoder: Encoder) -> None:
    load_each_(encoder, _part(folder, "model."))


def restore_optimizer_(folder: Path, optimizer: Any) -> None:
    """Puts the moments back; learning rates and groups are those of the settings."""
    by_index: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(folder, "optimizer.").items():
        index, part = name.split(".", 1)
        by_index.setdefault(int(index), {})[part] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": by_index})


def restore_hooks_(folder: Path, hooks: Hooks) -> None:
    hooks.restore_(_part(folder, "hooks."))


def restore_random_(folder: Path) -> None:
    torch.set_rng_state(_part(folder, _RNG)[""])


def save_best(work: Path, encoder: Encoder) -> None:
    work.mkdir(parents=True, exist_ok=True)
    with whole_file(work / _BEST) as draft:
        save_file(each_once(encoder), str(draft))


def load_best(work: Path) -> dict[str, Tensor] | None:
    """The best weights so far, None where no evaluation gave a number."""
    return _read(work / _BEST) if (work / _BEST).exists() else None


def _moments(optimizer: Any) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{i}.{part}": t for i, parts in state.items() for part, t in parts.items()}


def _part(folder: Path, prefix: str) -> dict[str, Tensor]:
    tensors = _read(folder / _TENSORS)
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(str(path)))
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove {path.parent} and run again") from (
            error
        )
