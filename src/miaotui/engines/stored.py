"""What an engine wrote, lowered again for another: its graph as it is, or its model from the stored
weights."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.engines.base import EngineBase as Engine
from miaotui.engines.native import HEADER_FILE, restored
from miaotui.engines.onnx_files import ONNX_FILE
from miaotui.errors import EngineUnavailable
from miaotui.models.precision import Precision
from miaotui.tasks.task import Task

if TYPE_CHECKING:
    from miaotui.models.model import Model

NEEDS_TORCH = (
    "to lower its weights for another engine takes torch and transformers, which are not "
    "installed; pip install 'miaotui[optimize]'"
)


@dataclass(frozen=True)
class Stored:
    """What some engine's `build` wrote: a graph, which keeps its number formats whatever runs it,
    or a model."""

    task: Task
    graph: Path | None = None
    model: "Model | None" = None

    @cached_property
    def can_pack(self) -> bool:
        """Whether it takes several rows in one block."""
        if self.model is not None:
            return self.model.can_pack
        import onnx

        graph = onnx.load(str(self.graph)).graph
        return any(entry.name == "segments" for entry in graph.input)

    def lower(self, engine: Engine, folder: Path, in_float: bool) -> None:
        """For an engine into `folder`. `in_float` computes a model in fp32, its weights what the
        stored ones stand for. What the engine cannot run is refused by name."""
        if self.model is None:
            engine.adopt(self.graph or folder, self.task, folder)
            return
        floats = replace(self.model, precision=Precision())
        engine.build(floats if in_float else self.model, None, folder)


def has_graph(folder: Path) -> bool:
    """Whether what lies there is a graph."""
    return (folder / ONNX_FILE).is_file()


def read_stored(folder: Path, task: Task) -> Stored:
    """What was lowered into `folder`; an EngineUnavailable where it takes a torch that is not
    installed."""
    if has_graph(folder):
        return Stored(task, graph=folder / ONNX_FILE)
    try:
        return Stored(task, model=_stored_model(folder, task))
    except ImportError as error:
        raise EngineUnavailable(NEEDS_TORCH) from error


def _stored_model(folder: Path, task: Task) -> "Model":
    from miaotui.models.load import find_model, load_model
    from miaotui.models.model import Model

    if not (folder / HEADER_FILE).is_file():
        return load_model(find_model(str(folder)))
    encoder, precision = restored(folder)
    return Model(encoder, task, encoder.shape.family, precision)
