"""PyTorch compiled ahead of time by Inductor, weights frozen: fp32, bf16, int8-dynamic.

What `build` writes is the model. It is compiled when it is first opened on a host, which takes half
a minute to minutes and a C++ compiler, and what comes of it stays in the user's cache: native code
for this processor, never part of a bundle.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from miaotui.engines.base import BatchedEngine, Session
from miaotui.engines.torch import TorchRunner, input_names
from miaotui.errors import BundleError, EngineFailed, ModelError, first_line
from miaotui.hardware import Machine, cpp_compiler, probe
from miaotui.models.precision import Kind
from miaotui.models.shape import Readout
from miaotui.paths import cache_folder

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

FACTS_FILE = "torch-compile.json"
_KINDS = frozenset({Kind.FP32, Kind.BF16, Kind.INT8_DYNAMIC})
_MOST_BLOCKS = 1 << 16


class TorchCompileEngine(BatchedEngine):
    """Every shape runs the same code: nothing is compiled while a bundle serves."""

    package: ClassVar[str] = "torch"
    by_default: ClassVar[bool] = False
    name: Literal["torch-compile"] = "torch-compile"

    @classmethod
    def unavailable(cls, machine: Machine) -> str | None:
        if "torch" not in machine.versions:
            return "torch is not installed"
        if cpp_compiler() is None:
            return "torch-compile needs a C++ compiler (Debian and Ubuntu: the package g++)"
        return None

    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        from miaotui.models.load import save_model

        self.check_kinds(model, _KINDS)
        self.check_layout(model)
        self.check_readout(model, frozenset({Readout.FIRST, Readout.MEAN}))
        save_model(model, folder)
        facts = {
            "linears": {name: linear.kind for name, linear in model.precision.items()},
            "max_tokens": model.task.max_tokens,
        }
        (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")

    def open(self, folder: Path, cores: int) -> Session:
        from miaotui.models.load import find_model, load_model

        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            kinds = {str(name): Kind(kind) for name, kind in facts["linears"].items()}
            most_tokens = int(facts["max_tokens"])
            model = load_model(find_model(str(folder)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError) as error:
            raise BundleError(
                f"{folder} cannot be opened by torch-compile: {first_line(error)}"
            ) from error
        threads = self.threads_per_stream(cores)
        path = _cached(folder)
        if not path.exists():
            sys.stderr.write("torch-compile: compiling for this processor, once; about a minute\n")
            _compile(model, kinds, most_tokens, path)
        runner = TorchRunner(_loaded(path, self.streams), input_names(model), False, threads)
        return Session(runner, self.layout, self.streams)


def _cached(folder: Path) -> Path:
    """Where the native code lies for these very files, this torch and this processor."""
    machine, digest = probe(), hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode())
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    facts = [machine.versions["torch"], machine.cpu_model, machine.isa]
    digest.update(json.dumps(facts).encode())
    return cache_folder("torch-compile") / f"{digest.hexdigest()[:24]}.pt2"


def _compile(model: "Model", kinds: dict[str, Kind], most_tokens: int, path: Path) -> None:
    """Writes the package at `path`, whole or not at all."""
    import torch

    from miaotui.engines.torch_linears import narrow_

    module = model.module.eval()
    narrow_(module, kinds)
    draft = path.with_suffix(f".{os.getpid()}.pt2")
    draft.parent.mkdir(parents=True, exist_ok=True)
    # its own place for sources is a guessable one under /tmp
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(draft.parent / "inductor"))
    examples, shapes = _examples(torch, input_names(model), most_tokens)
    try:
        with torch.no_grad():
            program = torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(draft),
                inductor_configs={"freezing": True, "cpp.dynamic_threads": True},
            )
        draft.replace(path)
    except Exception as error:  # the compiler's own errors have no common base
        raise EngineFailed(f"torch-compile: {first_line(error)}") from error
    finally:
        draft.unlink(missing_ok=True)


def _examples(torch: Any, names: list[str], most_tokens: int) -> tuple[Any, Any]:
    """Inputs to trace with, each of its own memory and no size of 1, and which sizes are free."""
    blocks, tokens, readouts = 2, min(7, most_tokens), 3
    free = {
        "blocks": torch.export.Dim("blocks", min=1, max=_MOST_BLOCKS),
        "tokens": torch.export.Dim("tokens", min=1, max=most_tokens),
        "readouts": torch.export.Dim("readouts", min=1, max=most_tokens),
    }
    examples, shapes = [], []
    for name in names:
        size = readouts if name == "readout" else tokens
        start = torch.ones if name in ("segments", "mask") else torch.zeros
        examples.append(start(blocks, size, dtype=torch.long))
        second = free["readouts"] if name == "readout" else free["tokens"]
        shapes.append({0: free["blocks"], 1: second})
    return tuple(examples), tuple(shapes)


def _loaded(path: Path, streams: int) -> Any:
    """Callable by so many threads at once."""
    from torch._inductor.package import load_package  # type: ignore[attr-defined]

    try:
        return load_package(str(path), num_runners=streams)
    except RuntimeError as error:
        raise EngineFailed(
            f"torch-compile: {path} cannot be loaded; remove it and open the bundle again"
        ) from error
