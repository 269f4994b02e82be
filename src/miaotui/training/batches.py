"""Training batches of rows of like lengths, shuffled anew each epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from miaotui.models.observe import padded
from miaotui.tasks.base import EncodedRows
from miaotui.training.teacher import TeacherOutputs

_POOL_BATCHES = 50


@dataclass(frozen=True)
class TrainingRows(Dataset[int]):
    """Rows by index. `teacher` is None where there are only labels to learn from."""

    rows: EncodedRows
    targets: ndarray
    labelled: Bool[ndarray, " rows"]
    teacher: TeacherOutputs | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> dict[str, Tensor]:
        """The arrays of one batch, padded to its longest row."""
        names = ("ids", "positions", "segments", "types", "readout")
        batch = dict(zip(names, padded(self.rows, indices), strict=True))
        batch["targets"] = torch.from_numpy(self.targets[indices])
        batch["labelled"] = torch.from_numpy(self.labelled[indices])
        if self.teacher is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher.logits[indices])
            batch["teacher_states"] = torch.from_numpy(self.teacher.states[indices]).float()
        return batch


class LengthBatches(Sampler[list[int]]):
    """Shuffles, sorts by length within pools of 50 batches, shuffles the batches; the order is a
    function of the seed and the epoch."""

    def __init__(self, rows: EncodedRows, batch: int, seed: int) -> None:
        self._lengths = rows.lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Orders the batches of that epoch, from the next iteration on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(len(self._lengths))
        pool = self._batch * _POOL_BATCHES
        parts = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = np.concatenate([p[np.argsort(self._lengths[p], kind="stable")] for p in parts])
        batches = [order[i : i + self._batch] for i in range(0, len(order), self._batch)]
        for at in random.permutation(len(batches)):
            yield batches[at].tolist()
