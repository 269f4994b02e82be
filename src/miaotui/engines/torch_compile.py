"""PyTorch compiled ahead of time by Inductor, weights frozen: fp32, bf16, int8-dynamic.

What `build` writes is the model. It is compiled for this host, which takes a C++ compiler and half
a minute or more, and the native code stays in the user's cache: it is never part of a bundle, and a
bundle that comes from elsewhere is compiled when it is first opened.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from miaotui.engines.base import (
    EMULATED_BF16,
    BatchedEngine,
    Move,
    Session,
    Workload,
    usual_layout,
)
from miaotui.engines.layouts import single_row
from miaotui.engines.torch import TorchRunner, input_names, stored_in_bf16
from miaotui.errors import BundleError, EngineFailed, ModelError, first_line
from miaotui.hardware import Machine, cpp_compiler, probe
from miaotui.models.precision import Kind
from miaotui.paths import CACHE_VARIABLE, cache_folder, whole_file

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

FACTS_FILE = "torch-compile.json"
_KINDS = frozenset({Kind.FP32, Kind.BF16, Kind.INT8_DYNAMIC})
_MOST_BLOCKS = 1 << 16
_OPTIONS = {"freezing": True, "cpp.dynamic_threads": True}
_EDITION = 1
"""Part of the cache's keys: to be raised with any change of what is compiled of a model."""
_MOST_KEPT = 16
_OF_COMPILERS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What tracing and compiling raise of a model that they cannot take: there is no common base."""


class _Facts(BaseModel):
    """What stands beside the model: what its module takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linears: dict[str, Kind] = {}
    """Of bundles made before a model's precision was saved with it."""
    inputs: tuple[str, ...]
    max_tokens: int
    reads_tokens: bool = False
    weight_bits: Literal[7, 8]


class TorchCompileEngine(BatchedEngine):
    """Every shape runs the same code: nothing is compiled while a bundle serves, but what oneDNN
    generates for a shape that it has not met.

    `weight_bits` of 7 keeps int8 sums from saturating on processors without VNNI.
    """

    package: ClassVar[str] = "torch"
    builds_fast: ClassVar[bool] = False
    name: Literal["torch-compile"] = "torch-compile"
    weight_bits: Literal[7, 8] = 7

    @classmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        compiled = cls(layout=usual_layout(model, work), weight_bits=work.weight_bits)
        bf16 = [Move(compiled, Kind.BF16)] if work.machine.computes_bf16 else []
        return [Move(compiled, Kind.INT8_DYNAMIC), *bf16, Move(compiled)]

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        if "torch" not in machine.versions:
            return "torch is not installed"
        if cpp_compiler() is None:
            return "torch-compile needs a C++ compiler (Debian and Ubuntu: the package g++)"
        return None

    def unsuited(self, folder: Path, machine: Machine) -> str | None:
        reason = self.unavailable(machine)
        if reason is not None or machine.computes_bf16:
            return reason
        return EMULATED_BF16 if stored_in_bf16(folder) else None

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        from miaotui.models.load import save_model

        self.check_kinds(model, _KINDS)
        self.check_layout(model)
        save_model(model, folder)
        facts = _Facts(
            inputs=tuple(input_names(model)),
            max_tokens=model.task.max_tokens,
            reads_tokens=model.task.reads_tokens,
            weight_bits=self.weight_bits,
        )
        (folder / FACTS_FILE).write_text(facts.model_dump_json(indent=1), encoding="utf-8")
        _compiled(folder, facts)

    def open(self, folder: Path, cores: int) -> Session:
        try:
            text = (folder / FACTS_FILE).read_text(encoding="utf-8")
            facts = _Facts.model_validate_json(text)
            package = _loaded(_compiled(folder, facts), self.streams)
        except (OSError, ValidationError, ModelError) as error:
            raise BundleError(
                f"{folder} cannot be opened by {self.name}: {first_line(error)}"
            ) from error
        threads = self.threads_per_stream(cores)
        runner = TorchRunner(self.name, package, facts.inputs, False, threads)
        single, reads_tokens = single_row(facts.max_tokens), facts.reads_tokens
        return Session(runner, self.layout, self.streams, single, reads_tokens=reads_tokens)


def _compiled(folder: Path, facts: _Facts) -> Path:
    """The native code of what lies in `folder`, from the cache or made now; several processes that
    want the same wait for one of them."""
    from filelock import FileLock

    path = cache_folder("torch-compile") / f"{_key(folder)}.pt2"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                os.utime(path)  # the least recently used are removed
            else:
                _compile(folder, facts, path)
    except OSError as error:
        raise EngineFailed(
            f"torch-compile: its cache {path.parent} cannot be written ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a folder that can"
        ) from error
    return path


def _key(folder: Path) -> str:
    """Of these very files, this torch, this processor."""
    machine, digest = probe(), hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode())
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    made_by = [_EDITION, _OPTIONS, machine.versions["torch"], machine.cpu_model, machine.isa]
    digest.update(json.dumps(made_by).encode())
    return digest.hexdigest()[:24]


def _compile(folder: Path, facts: _Facts, path: Path) -> None:
    """Writes the package at `path`, whole or not at all."""
    import torch
    from torch._inductor.utils import fresh_inductor_cache

    from miaotui.engines.torch_linears import narrow_
    from miaotui.models.load import find_model, load_model

    model = load_model(find_model(str(folder)))
    module = model.module.eval()
    kinds = facts.linears | {name: linear.kind for name, linear in model.precision.items()}
    narrow_(module, kinds, facts.weight_bits)
    sys.stderr.write("torch-compile: compiling for this processor; about a minute\n")
    examples, shapes = _examples(torch, facts, variadic=not model.has_adapter)
    try:
        # The usual place for generated sources can be guessed by others who use this host.
        with torch.no_grad(), fresh_inductor_cache(), whole_file(path) as draft:
            program = torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(draft), inductor_configs=_OPTIONS
            )
    except _OF_COMPILERS as error:
        raise EngineFailed(f"torch-compile: {first_line(error)}") from error
    _forget_old(path.parent)


def _forget_old(folder: Path) -> None:
    """A search compiles many models, of which one is kept."""
    oldest_first = sorted(folder.glob("*.pt2"), key=lambda path: path.stat().st_mtime)
    for path in oldest_first[:-_MOST_KEPT]:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _examples(torch: Any, facts: _Facts, variadic: bool) -> tuple[Any, Any]:
    """Inputs to trace with, each of its own memory and no size of 1, and which sizes are free.

    `variadic`: `forward(ids, mask, *more)`, whose further inputs are one tuple to the exporter.
    """
    blocks, tokens, readouts = 2, min(7, facts.max_tokens), 3
    free = {
        "blocks": torch.export.Dim("blocks", min=1, max=_MOST_BLOCKS),
        "tokens": torch.export.Dim("tokens", min=1, max=facts.max_tokens),
        "readouts": torch.export.Dim("readouts", min=1, max=facts.max_tokens),
    }
    examples, shapes = [], []
    for name in facts.inputs:
        size = readouts if name == "readout" else tokens
        start = torch.ones if name in ("segments", "mask") else torch.zeros
        examples.append(start(blocks, size, dtype=torch.long))
        second = free["readouts"] if name == "readout" else free["tokens"]
        shapes.append({0: free["blocks"], 1: second})
    nested = [*shapes[:2], tuple(shapes[2:])] if variadic and shapes[2:] else shapes
    return tuple(examples), tuple(nested)


def _loaded(path: Path, streams: int) -> Any:
    """Callable by so many threads at once."""
    from torch._inductor.package import load_package  # type: ignore[attr-defined]

    try:
        return load_package(str(path), num_runners=streams)
    except RuntimeError as error:
        raise EngineFailed(
            f"torch-compile: {path} cannot be loaded; remove it and open the bundle again"
        ) from error
