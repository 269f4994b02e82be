"""An engine lowers a model to a folder and opens that folder as a session. No torch in here."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field

from miaotui.devices import Device, Use
from miaotui.drift import Drift
from miaotui.engines.layouts import Batch, Bucketed, Layout, Packed, Padded, blank
from miaotui.errors import EngineUnavailable
from miaotui.hardware import Machine
from miaotui.models.precision import Kind
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.task import Task

if TYPE_CHECKING:
    from miaotui.models.model import Calibration, Model

EMULATED_BF16 = "it computes in bf16, which this processor only emulates"
OVERFLOWING_INT8 = "sums of its 8-bit products overflow on this processor"


class Runner(Protocol):
    """Runs one batch; safe to call from several threads at once."""

    def __call__(self, batch: Batch) -> Float32[ndarray, "blocks readouts labels"]: ...


class RowRunner(Protocol):
    """Runs encoded rows, whatever is behind it: one session, or a cascade."""

    def run(self, rows: EncodedRows) -> Outputs: ...

    def drift(self) -> Drift | None:
        """Of a cascade: whether the rows that come are still like those that were measured. A
        session alone has nothing to tell it by."""
        return None

    def warm_up(self, longest: int) -> None:
        """Does beforehand what the first single row of each length, up to `longest` tokens, would
        wait for. Those who serve call it; a search, which opens a hundred sessions, does not."""
        return

    def warmed_up(self, longest: int) -> Self:
        """This runner after `warm_up`; closed where that fails."""
        with ExitStack() as failed:
            failed.callback(self.close)
            self.warm_up(longest)
            failed.pop_all()
        return self

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Packable(Protocol):
    """What is asked of a model to choose its layout."""

    @property
    def can_pack(self) -> bool: ...


class Session(RowRunner):
    """Runs encoded rows through a runner by a layout, results in the caller's order.

    `streams` batches are in flight at once, each on its own thread. A single row goes by `single`,
    since it would leave most of a packed block empty, and through `single_runner` if there is one.
    """

    def __init__(
        self,
        runner: Runner,
        layout: Layout,
        streams: int = 1,
        single: Layout | None = None,
        single_runner: Runner | None = None,
        reads_tokens: bool = False,
    ) -> None:
        self._runner = runner
        self._layout = layout
        self._single = single or Padded(batch=1)
        self._single_runner = single_runner or runner
        self._reads_tokens = reads_tokens
        self._pool = ThreadPoolExecutor(streams, "miaotui-stream") if streams > 1 else None

    def run(self, rows: EncodedRows) -> Outputs:
        """Outputs of every readout of every row. No readouts give values of shape [0, 0]."""
        if len(rows) == 1:
            parts = list(self._outputs(self._single_runner, self._single.batches(rows)))
        else:
            parts = list(self._outputs(self._runner, self._layout.batches(rows)))
        starts = rows.readout_starts
        if not parts:
            return Outputs(np.zeros((0, 0), dtype=np.float32), starts)
        outputs = np.empty((starts[-1], parts[0][1].shape[-1]), dtype=np.float32)
        for owners, values in parts:
            taken = owners >= 0
            outputs[owners[taken]] = values[taken]
        return Outputs(outputs, starts)

    def _outputs(
        self, runner: Runner, batches: Iterable[Batch]
    ) -> Iterator[tuple[ndarray, ndarray]]:
        def one(batch: Batch) -> tuple[ndarray, ndarray]:
            values = runner(batch)
            return batch.owners, values.reshape(*batch.owners.shape, values.shape[-1])

        return map(one, batches) if self._pool is None else self._pool.map(one, batches)

    def warm_up(self, longest: int) -> None:
        """Runs each fixed shape of a single row once: what is compiled or generated for it
        stays."""
        for shape in self._single.shapes(longest, self._reads_tokens):
            self._single_runner(blank(shape))

    def close(self) -> None:
        """Ends the threads; the session cannot run afterwards."""
        if self._pool is not None:
            self._pool.shutdown()


@dataclass(frozen=True)
class Workload:
    """What an engine's settings may depend on: the machine, and how long the user's rows are.

    `block_tokens` is a packed block's room, `edges` and `single_edges` are the lengths of buckets
    for many rows and for single ones.
    """

    machine: Machine
    cores: int
    block_tokens: int
    edges: tuple[int, ...]
    single_edges: tuple[int, ...]

    @property
    def weight_bits(self) -> Literal[7, 8]:
        return 7 if self.machine.saturates_int8 else 8


@dataclass(frozen=True)
class Move:
    """An engine as it might be set, and the number format that suits it there."""

    engine: "EngineBase"
    kind: Kind = Kind.FP32


class EngineBase(BaseModel, ABC):
    """Frozen settings of one engine. `threads` of None: every usable core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: ClassVar[str]
    """What must be installed, by the name that `Machine.versions` has for it."""

    builds_fast: ClassVar[bool] = True
    """Whether a model is lowered in seconds. An engine that takes longer is tried only where it is
    asked for by name, and nothing is pruned against it."""

    is_reference: ClassVar[bool] = False
    """Whether it runs every model as its library does: what others are compared with."""

    mixes_kinds: ClassVar[bool] = False
    """Whether each linear may have a number format of its own, bf16 among them."""

    name: str
    threads: int | None = Field(default=None, ge=1)

    @property
    def title(self) -> str:
        """The engine and how it lays rows out, in a word or two."""
        return self.name

    @classmethod
    @abstractmethod
    def first_moves(cls, model: "Model", work: Workload) -> list[Move]:
        """What to try of this engine first on the untouched model, the most promising ahead."""

    @abstractmethod
    def refined(self, model: Packable, work: Workload, one_by_one: bool) -> list["EngineBase"]:
        """Other settings for one that led, for single rows or for many at once."""

    def in_float(self) -> Self:
        """The same with every number format narrower than fp32 off."""
        return self

    @classmethod
    @abstractmethod
    def unavailable(cls, machine: Machine) -> str | None:
        """Why this engine cannot run on the machine, in one line; None where it can."""

    @classmethod
    def use_of(cls, device: Device, machine: Machine) -> Use | None:
        """How it would compute on a device beside the processor; None where it never does."""
        return None

    def refusal(self) -> str | None:
        """Why these settings cannot run here though the engine can; None where they can."""
        return None

    def unsuited(self, folder: Path, machine: Machine) -> str | None:
        """Why what `build` wrote in `folder` is not to be run there as it is, in one line: not only
        where the engine or these settings of it cannot, but where it would only emulate, or answer
        otherwise."""
        return self.unavailable(machine) or self.refusal()

    def suited(self, machine: Machine) -> Self:
        """The same files, run so that the machine answers as they mean where a setting does it."""
        return self

    @abstractmethod
    def build(self, model: "Model", calibration: "Calibration | None", folder: Path) -> None:
        """Lowers the model into `folder`; what cannot be lowered is refused by name."""

    def adopt(self, graph: Path, task: Task, folder: Path) -> None:
        """Writes into `folder` what `open` needs to run a graph that another engine's `build`
        wrote."""
        raise EngineUnavailable(f"{self.name} runs models, not the graph {graph.name}")

    @abstractmethod
    def open(self, folder: Path, cores: int) -> RowRunner:
        """Runs what `build` wrote, on at most `cores` threads in all."""

    def open_model(self, model: "Model", cores: int) -> RowRunner:
        """Runs a model as it is in memory, nothing written: the reference engine can."""
        raise EngineUnavailable(f"{self.name} runs what it has built, never a model in memory")

    def check_kinds(self, model: "Model", allowed: frozenset[Kind]) -> None:
        """Refuses by name the precisions that this engine cannot lower."""
        for kind in sorted(model.precision.kinds - allowed):
            raise EngineUnavailable(
                f"{self.name} cannot compute in {kind} here; it can in "
                + ", ".join(sorted(k.value for k in allowed))
            )


class BatchedEngine(EngineBase):
    """An engine of batches of tokens: a layout makes them of rows, `streams` are in flight at once
    and share the threads."""

    layout: Layout = Field(default_factory=Padded)
    streams: int = Field(default=1, ge=1)

    def refined(self, model: Packable, work: Workload, one_by_one: bool) -> list[EngineBase]:
        changes = self._single_row_changes(work) if one_by_one else _bulk_changes(model, work)
        return [self.model_copy(update=change) for change in changes]

    def _single_row_changes(self, work: Workload) -> list[dict[str, object]]:
        """Single rows are the same in all layouts but buckets."""
        other = Padded() if isinstance(self.layout, Bucketed) else self.layout
        layouts: list[Layout] = [Bucketed(batch=16, edges=work.single_edges), other]
        threads = sorted({1, work.cores})
        return [{"threads": t, "layout": layout} for t in threads for layout in layouts]

    @property
    def title(self) -> str:
        streams = f" x{self.streams}" if self.streams > 1 else ""
        return f"{self.name}/{self.layout.kind}{streams}"

    def check_layout(self, model: "Model") -> None:
        """Refuses by name a layout that the model's family cannot take."""
        if isinstance(self.layout, Packed) and not model.can_pack:
            raise EngineUnavailable(
                f"{model.family} has no adapter, so it cannot be packed; "
                "use the bucketed or padded layout"
            )

    def threads_per_stream(self, cores: int) -> int:
        """Threads of each stream, within the cores given."""
        return max(1, min(self.threads or cores, cores) // self.streams)


def usual_layout(model: Packable, work: Workload) -> Layout:
    """What suits most: packed where the family can be."""
    if model.can_pack:
        return Packed(batch=8, block_tokens=work.block_tokens)
    return Bucketed(edges=work.edges)


def _bulk_changes(model: Packable, work: Workload) -> list[dict[str, object]]:
    tokens = work.block_tokens
    layouts: list[Layout] = [Bucketed(batch=16, edges=work.edges)]
    if model.can_pack:
        packed = [Packed(batch=4, block_tokens=room) for room in (tokens, 2 * tokens)]
        layouts = [*packed, *layouts]
    else:
        layouts.append(Padded(batch=32))
    streams = (work.cores, 1) if work.cores > 1 else (1,)
    return [{"streams": s, "layout": layout} for s in streams for layout in layouts]


def feeds(batch: Batch, names: Sequence[str]) -> dict[str, ndarray]:
    """The inputs a graph declares; `mask` is 1 for tokens and 0 for padding. Blocks of padding
    alone show one token, since attention to nothing is NaN, which int8 spreads to all rows."""
    arrays = dict(batch.inputs)
    if "mask" in names:
        mask = (batch.segments > 0).astype(np.int64)
        mask[:, 0] = 1
        arrays["mask"] = mask
    return {name: arrays[name] for name in names}
