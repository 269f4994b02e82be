"""Looks at what goes into a model's linears while it runs over some rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from miaotui.models.encoder import Encoder
from miaotui.tasks.base import EncodedRows

_BATCH = 32
Observer = Callable[[str, Float[Tensor, "tokens features"]], None]


def padded(rows: EncodedRows, indices: Sequence[int]) -> tuple[Tensor, ...]:
    """ids, positions, segments, types [batch, tokens] and readout [batch, readouts] of the chosen
    rows; see `read` for which readouts are real."""
    chosen = rows.select(list(indices))
    lengths = torch.from_numpy(chosen.lengths)
    width = int(lengths.max()) if len(chosen) else 0
    positions = torch.arange(width).expand(len(chosen), width)
    real = positions < lengths[:, None]
    ids, types = torch.zeros(2, len(chosen), width, dtype=torch.long).unbind()
    ids[real] = torch.from_numpy(chosen.ids).long()
    if chosen.type_ids is not None:
        types[real] = torch.from_numpy(chosen.type_ids).long()
    return ids, positions * real, real.long(), types, _readout(chosen)


def _readout(rows: EncodedRows) -> Int[Tensor, "batch readouts"]:
    if rows.readouts is None:
        return torch.zeros(len(rows), 1, dtype=torch.long)
    real = read(rows)
    readout = torch.zeros(real.shape, dtype=torch.long)
    readout[real] = torch.from_numpy(rows.readouts.values[:, 0]).long()
    return readout


def read(rows: EncodedRows) -> Bool[Tensor, "batch readouts"]:
    """Which of the readouts of `padded` are real; taken by it, they stand in the order of rows."""
    counts = torch.from_numpy(np.diff(rows.readout_starts))
    width = max(1, int(counts.max())) if len(rows) else 1
    return torch.arange(width) < counts[:, None]


def by_length(rows: EncodedRows, batch: int = _BATCH) -> Iterator[np.ndarray]:
    """Indices of batches, longest rows first."""
    order = np.argsort(-rows.lengths, kind="stable")
    for first in range(0, len(order), batch):
        yield order[first : first + batch]


@contextmanager
def observing(
    module: nn.Module, names: Sequence[str], observer: Observer, real: list[Tensor]
) -> Iterator[None]:
    """Calls `observer(name, inputs)` for each named submodule's inputs; padding is left out where
    the inputs have one state a token (`real` holds the running batch's mask)."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def seen(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach()
            kept = x[real[0]] if x.shape[:2] == real[0].shape else x.flatten(0, -2)
            observer(name, kept)

        return seen

    handles = [module.get_submodule(n).register_forward_pre_hook(hook(n)) for n in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def observe(encoder: Encoder, rows: EncodedRows, names: Sequence[str], observer: Observer) -> None:
    """Runs the rows and shows the inputs of the named submodules, real tokens only."""
    real = [torch.zeros(0, 0, dtype=torch.bool)]
    with torch.inference_mode(), observing(encoder, names, observer, real):
        for indices in by_length(rows):
            batch = padded(rows, indices.tolist())
            real[0] = batch[2].bool()
            encoder(*batch)


def second_moments(
    encoder: Encoder, rows: EncodedRows, names: Sequence[str]
) -> dict[str, Float[Tensor, "features features"]]:
    """Mean of x xᵀ over the inputs of each named linear, in float64."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(names, 0)

    def observer(name: str, x: Tensor) -> None:
        wide = x.double()
        sums[name] = sums.get(name, 0) + wide.T @ wide
        counts[name] += len(x)

    observe(encoder, rows, names, observer)
    return {name: total / counts[name] for name, total in sums.items()}
