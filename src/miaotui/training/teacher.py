"""The original's outputs on the training rows, computed once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Float32
from numpy import ndarray
from safetensors.numpy import load_file, save_file

from miaotui.models.encoder import Encoder
from miaotui.models.observe import by_length, padded
from miaotui.tasks.base import EncodedRows

_FILE = "teacher.safetensors"


@dataclass(frozen=True)
class TeacherOutputs:
    """Logits, and the readout token's hidden state after the embeddings and after each layer."""

    logits: Float32[ndarray, "rows labels"]
    states: Float16[ndarray, "rows layers_1 hidden"]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{_FILE}.tmp"
        save_file({"logits": self.logits, "states": self.states}, str(draft))
        draft.replace(folder / _FILE)

    @staticmethod
    def load(folder: Path) -> "TeacherOutputs":
        arrays = load_file(str(folder / _FILE))
        return TeacherOutputs(arrays["logits"], arrays["states"])


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
    depth, shape = len(encoder.layers) + 1, encoder.shape
    logits = np.zeros((len(rows), shape.labels), dtype=np.float32)
    states = np.zeros((len(rows), depth, shape.hidden), dtype=np.float16)
    done = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for indices in by_length(rows, batch):
            found = encoder.states(*padded(rows, indices.tolist()))
            logits[indices] = encoder.head(found[-1])[:, 0].float().numpy()
            stacked = torch.stack([state[:, 0].float() for state in found], dim=1)
            states[indices] = stacked.clamp(-65000, 65000).to(torch.float16).numpy()
            done += len(indices)
            if on_progress is not None:
                on_progress(done / len(rows))
    return TeacherOutputs(logits, states)
