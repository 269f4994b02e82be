"""Loads a model from a folder or a hub id; safetensors only, no code of the model's own."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from miaotui.errors import ModelError, first_line
from miaotui.models.adapter import (
    Adapter,
    base_of,
    copy_tokenizer,
    is_adapter,
    key_of,
    read_adapter,
)
from miaotui.models.alone import check_alone
from miaotui.models.config import CONFIG_FILE, read_config, strange
from miaotui.models.families import blank_encoder, family_of
from miaotui.models.hub import hub_folder
from miaotui.models.model import Model, PaddedModel
from miaotui.models.precision import PRECISION_FILE, Precision
from miaotui.models.shape import shape_from_json, shape_to_json
from miaotui.models.ties import each_once, load_each_, tie_, ties
from miaotui.models.tokenizer import load_tokenizer, longest_row, room_of
from miaotui.paths import cache_folder
from miaotui.quiet import hushed_transformers, silence_telemetry
from miaotui.tasks import DEFAULT_TASK, TASKS, Task
from miaotui.tasks.saved import TASK_FILE, open_task, save_task

SHAPE_FILE = "shape.json"
_BUFFERS = ("position_ids", "token_type_ids")
"""What older checkpoints hold that is no weight."""
WEIGHTS_FILE = "model.safetensors"
_WRAPPERS = ("module.", "model.")
"""What training scripts that saved a model from within a wrapper put before each weight's name."""
_TIES = "ties"
"""Metadata of weights: names whose tensor is stored once, under the name beside them."""


@dataclass(frozen=True)
class Source:
    """Where a model was found: a local folder, and the commit if it came from a hub."""

    folder: Path
    name: str
    revision: str | None = None


def find_model(name: str, revision: str | None = None) -> Source:
    """A folder as it is, or a hub id, downloaded (or found in the cache) at one commit; of an
    adapter the whole model that it makes of its base."""
    silence_telemetry()
    folder = Path(name)
    if folder.is_dir():
        if is_adapter(folder):
            return Source(_merged(folder), name)
        _check_folder(folder)
        return Source(folder.resolve(), name)
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"{name} is not a folder; give a model folder or a hub id such as org/name"
        )
    downloaded = hub_folder(name, revision)
    if is_adapter(downloaded):
        return Source(_merged(downloaded), name, downloaded.name)
    _check_folder(downloaded)
    return Source(downloaded, name, downloaded.name)


def _merged(folder: Path) -> Path:
    """A transformers folder of an adapter and its base as one, in the user's cache; made where it
    is not there."""
    base = base_of(folder)
    try:
        source = find_model(base)
        config = load_config(source)
    except ModelError as error:
        raise ModelError(f"{folder} is an adapter of {base}, which is needed: {error}") from error
    target = cache_folder("merged") / key_of(folder, source.folder)
    if not target.exists():
        _merge(read_adapter(folder), source, config, target)
    return target


def _merge(adapter: Adapter, base: Source, config: Any, target: Path) -> None:
    task = next(task for task in TASKS.values() if task.architecture == adapter.architecture)
    module = load_transformers(base, config, task, **adapter.head_settings(config))
    try:
        adapter.merge_(module)
    except (RuntimeError, re.error) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{adapter.folder} does not fit {base.name}: {reason}") from error
    draft = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        with hushed_transformers():
            module.save_pretrained(draft)
        copy_tokenizer(base.folder, adapter.folder, draft)
        if not target.exists():  # another process may have been faster
            os.replace(draft, target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_folder(folder: Path) -> None:
    if (folder / SHAPE_FILE).exists():
        return
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{folder} has no config.json; save the model with save_pretrained first")
    if list(folder.glob("*.safetensors")):
        return
    pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for p in folder.glob("*.pt")
    )
    if pickled:
        raise ModelError(
            f"{folder} has only pickled weights ({pickled[0]}), which can run code when opened; "
            "on a machine you trust, load it with transformers and call "
            "save_pretrained(folder), which writes model.safetensors"
        )
    raise ModelError(f"{folder} has no weights; expected model.safetensors")


def load_config(source: Source) -> Any:
    """The transformers config; a strange one is a ModelError."""
    if not (source.folder / CONFIG_FILE).is_file():
        raise ModelError(
            f"{source.folder} has no config.json: it holds a model that miaotui made, not one "
            "of transformers; give the model that it was made from"
        )
    return read_config(source.folder)


def load_model(source: Source, asked: type[Task] | None = None) -> Model:
    """A fine-tuned model: one of transformers', or one that `save_model` wrote. `asked` decides
    between tasks whose models have one architecture."""
    if (source.folder / SHAPE_FILE).exists():
        return _load_saved(source.folder)
    config = load_config(source)
    kind = task_of(source, config) or DEFAULT_TASK
    if asked is not None and asked.architecture == kind.architecture:
        kind = asked
    loaded = load_with_notes(source, config, kind)
    task = _task(source, config, kind, room_of(loaded.module))
    family, precision = family_of(config), _precision(source.folder)
    if family is not None:
        try:
            encoder = family.encoder(loaded.module, kind.reads_tokens)
        except strange() as error:
            reason = f"its config contradicts its weights: {first_line(error)}"
            raise ModelError(f"{source.folder}: {reason}") from error
        return Model(encoder, task, family.name, precision, loaded.notes)
    padded = padded_model(loaded.module, kind)
    check_alone(padded, task.tokenizer, str(source.folder))
    return Model(padded, task, config.model_type, precision, loaded.notes)


def padded_model(module: Any, task: type[Task]) -> PaddedModel:
    """transformers' module as engines without an adapter and stock libraries run it."""
    takes_types = int(getattr(module.config, "type_vocab_size", 0) or 0) > 1
    return PaddedModel(module, takes_types, task.reads_tokens).eval()


def task_of(source: Source, config: Any) -> type[Task] | None:
    """The task that a model was trained for, by `task.json` or its architecture; None of a model
    that has no head."""
    if (source.folder / TASK_FILE).is_file():
        return type(open_task(source.folder))
    named = getattr(config, "architectures", None)
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    ends = [name.partition("For")[2] for name in names]
    return next((task for task in TASKS.values() if task.architecture in ends), None)


@dataclass(frozen=True)
class Loaded:
    """transformers' own module, and what is to be said about how it was loaded."""

    module: Any
    notes: tuple[str, ...]


def load_transformers(source: Source, config: Any, task: type[Task], **replaced: Any) -> Any:
    """The module alone of `load_with_notes`."""
    return load_with_notes(source, config, task, **replaced).module


def load_with_notes(source: Source, config: Any, task: type[Task], **replaced: Any) -> Loaded:
    """transformers' own module in fp32, refused where its head was not trained.

    `replaced` are config entries of a head that is yet to be trained; with any, a head that was
    trained for something else is left out, and none is needed.
    """
    import transformers

    loader = getattr(transformers, f"AutoModelFor{task.architecture}")
    settings = {
        "config": config if not replaced else None,
        "dtype": torch.float32,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "ignore_mismatched_sizes": bool(replaced),
        **replaced,
    }
    try:
        with hushed_transformers():
            module, info = loader.from_pretrained(source.folder, **settings)
            wrapper = _wrapper(info)
            if wrapper is not None:
                mapping = {f"^{re.escape(wrapper)}": ""}
                module, info = loader.from_pretrained(
                    source.folder, key_mapping=mapping, **settings
                )
    except strange(SafetensorError) as error:
        raise ModelError(f"{source.folder}: {first_line(error)}") from error
    body = f"{module.base_model_prefix}."
    lost = sorted(key for key in info["missing_keys"] if key.startswith(body))
    lost = [key for key in lost if not (replaced and ".pooler." in key)]  # part of a head to train
    if lost:
        raise ModelError(
            f"{source.folder} lacks {len(lost)} of its weights, such as {lost[0]}; save the model "
            "again, whole"
        )
    unfit = sorted(key for key, *_ in info["mismatched_keys"] if key.startswith(body))
    if unfit:
        raise ModelError(f"{source.folder}: {unfit[0]} is not of the size that its config says")
    if info["missing_keys"] and not replaced:
        missing = sorted(info["missing_keys"])[0]
        raise ModelError(
            f"{source.folder} has no trained head for {task.name} ({missing} is missing); "
            "fine-tune it first: miaotui finetune"
        )
    if getattr(module.config, "pad_token_id", None) is None:
        tokenizer = load_tokenizer(source.folder, module.config)
        module.config.pad_token_id = _padding_id(tokenizer, module)
    module.config.return_dict = True
    return Loaded(module.eval(), tuple(_notes(module, info, replaced)))


def _notes(module: Any, info: dict[str, Any], replaced: dict[str, Any]) -> Iterator[str]:
    """What of the checkpoint was left out, and whether the head is a new one."""
    kind = type(module).__name__
    spare = sorted(key for key in info["unexpected_keys"] if not key.endswith(_BUFFERS))
    if spare:
        yield f"{len(spare)} weights are not part of a {kind} and were left out, such as {spare[0]}"
    if replaced and info["mismatched_keys"]:
        _, before, after = sorted(info["mismatched_keys"])[0]
        yield (
            f"the model's head is for {before[0]} outputs, the rows need {after[0]}: it was left "
            "out, a new one is trained"
        )
    elif replaced and info["missing_keys"]:
        yield "the model has no head for this task: a new one is trained"


def _padding_id(tokenizer: Tokenizer, module: Any) -> int:
    """What stands in for a padding token where a model has none, so that the last real token of
    each row is found: its end token, unless every row ends with that; then the last of all ids."""
    end = getattr(module.config, "eos_token_id", None)
    ends: list[int] = end if isinstance(end, list) else [end] if end is not None else []
    always = tokenizer.encode("").ids
    last: int = module.get_input_embeddings().num_embeddings - 1
    return next((token for token in ends if token not in always), last)


def _wrapper(info: dict[str, Any]) -> str | None:
    """What stands before the name of every weight that was not recognized, if much is missing."""
    strange = info["unexpected_keys"]
    if not strange or not info["missing_keys"]:
        return None
    return next((w for w in _WRAPPERS if all(key.startswith(w) for key in strange)), None)


def _task(source: Source, config: Any, kind: type[Task], room: int | None) -> Task:
    if (source.folder / TASK_FILE).is_file():
        return open_task(source.folder)
    tokenizer = load_tokenizer(source.folder, config)
    known, most = tokenizer.get_vocab_size(with_added_tokens=False), _vocabulary(config)
    if most is not None and known > most:
        raise ModelError(
            f"{source.folder}: its tokenizer has {known} tokens, its model {most}: the two do not "
            "belong together"
        )
    longest = longest_row(source.folder, config)
    return kind.of_model(tokenizer, config, longest if room is None else min(longest, room))


def _vocabulary(config: Any) -> int | None:
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def _precision(folder: Path) -> Precision:
    path = folder / PRECISION_FILE
    return Precision.from_json(path.read_text(encoding="utf-8")) if path.is_file() else Precision()


def save_model(model: Model, folder: Path) -> None:
    """Writes weights, shape, task and precision; a family without adapter as transformers saves
    it."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model.module, PaddedModel):
        with hushed_transformers():
            model.module.module.save_pretrained(folder)  # type: ignore[operator]
    else:
        encoder = model.encoder
        metadata = {"format": "pt", _TIES: json.dumps(ties(encoder))}
        save_file(each_once(encoder), str(folder / WEIGHTS_FILE), metadata=metadata)
        (folder / SHAPE_FILE).write_text(shape_to_json(encoder.shape), encoding="utf-8")
    save_task(model.task, folder)
    (folder / PRECISION_FILE).write_text(model.precision.to_json(), encoding="utf-8")


def _load_saved(folder: Path) -> Model:
    if not (folder / TASK_FILE).is_file():
        raise ModelError(f"{folder} has {SHAPE_FILE} but no {TASK_FILE}; it was not saved whole")
    encoder = blank_encoder(shape_from_json((folder / SHAPE_FILE).read_text(encoding="utf-8")))
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as opened:
            stated = json.loads((opened.metadata() or {}).get(_TIES, "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        tie_(encoder, stated)
        load_each_(encoder, tensors)
    except (SafetensorError, OSError, RuntimeError, AttributeError, ValueError) as error:
        raise ModelError(f"{folder / WEIGHTS_FILE}: {str(error).splitlines()[0]}") from error
    return Model(encoder.eval(), open_task(folder), encoder.shape.family, _precision(folder))
