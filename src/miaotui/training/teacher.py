"""The original's outputs on the training rows, computed once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray
from safetensors.numpy import load_file, save_file

from miaotui.models.encoder import Encoder
from miaotui.models.observe import by_length, padded, read
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs, Ragged

_FILE = "teacher.safetensors"
_STATES_A_ROW = 4
"""Readouts of a row whose hidden states are kept: all of them would fill the memory."""


@dataclass(frozen=True)
class TeacherOutputs:
    """Outputs of every row, and of some of its readouts the hidden states after the embeddings and
    after each layer: float16 [kept readouts, layers + 1, hidden]."""

    outputs: Outputs
    states: Ragged

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{_FILE}.tmp"
        arrays = {"outputs": self.outputs.values, "starts": self.outputs.starts}
        save_file({**arrays, "states": self.states.values}, str(draft))
        draft.replace(folder / _FILE)

    @staticmethod
    def load(folder: Path) -> "TeacherOutputs":
        arrays = load_file(str(folder / _FILE))
        outputs = Outputs(arrays["outputs"], arrays["starts"])
        return TeacherOutputs(outputs, Ragged(arrays["states"], _kept_starts(outputs.lengths)))


def kept_places(lengths: Int64[ndarray, " rows"]) -> Int64[ndarray, " kept"]:
    """Of rows with so many readouts, the places within each row of those whose states are kept:
    evenly apart."""
    counts = np.minimum(lengths, _STATES_A_ROW)
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return number * np.repeat(lengths, counts) // np.maximum(np.repeat(counts, counts), 1)  # type: ignore[no-any-return]


def _kept_starts(lengths: Int64[ndarray, " rows"]) -> Int64[ndarray, " rows_plus_1"]:
    counts = np.minimum(lengths, _STATES_A_ROW)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def use_threads(cores: int) -> None:
    """torch's threads are the process's own: an engine may have left fewer of them."""
    if torch.get_num_threads() != cores:
        torch.set_num_threads(cores)


def cache_teacher(
    encoder: Encoder,
    rows: EncodedRows,
    on_progress: Callable[[float], None] | None = None,
    batch: int = 32,
    bf16: bool = False,
) -> TeacherOutputs:
    """Runs every row once, in batches of like lengths; progress is told as a share of the rows.

    `bf16` computes in it, which is precise enough to learn from and not to judge by.
    """
    depth, shape, starts = len(encoder.layers) + 1, encoder.shape, rows.readout_starts
    outputs = Outputs(np.zeros((starts[-1], shape.labels), dtype=np.float32), starts)
    kept = _kept_starts(outputs.lengths)
    states = Ragged(np.zeros((kept[-1], depth, shape.hidden), dtype=np.float16), kept)
    done = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for indices in by_length(rows, batch):
            chosen = rows.select(indices)
            by_layer = encoder.states(*padded(rows, indices.tolist()))
            real = read(chosen)
            places, own_starts = outputs.places(indices)
            outputs.values[places] = encoder.head(by_layer[-1])[real].float().numpy()
            lengths = np.diff(own_starts)
            first = np.repeat(own_starts[:-1], np.minimum(lengths, _STATES_A_ROW))
            chosen_states = torch.from_numpy(first + kept_places(lengths))
            stacked = torch.stack([s[real][chosen_states].float() for s in by_layer], dim=1)
            values = stacked.clamp(-65000, 65000).to(torch.float16).numpy()
            states.values[states.places(indices)[0]] = values
            done += len(indices)
            if on_progress is not None:
                on_progress(done / len(rows))
    return TeacherOutputs(outputs, states)
