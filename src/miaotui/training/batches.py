"""Training batches of rows of like lengths, shuffled anew each epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from miaotui.models.observe import padded, read
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Targets
from miaotui.training.teacher import TeacherOutputs, kept_places

_POOL_BATCHES = 50


@dataclass(frozen=True)
class TrainingRows(Dataset[int]):
    """Rows by index. `teacher` is None where there are only labels to learn from."""

    rows: EncodedRows
    targets: Targets
    labelled: Bool[ndarray, " rows"]
    teacher: TeacherOutputs | None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> dict[str, Tensor]:
        """The arrays of one batch, padded to its longest row. `read` are the real readouts; what
        has one for each of them stands in the order of rows."""
        names = ("ids", "positions", "segments", "types", "readout")
        batch = dict(zip(names, padded(self.rows, indices), strict=True))
        targets = self.targets.select(indices)
        batch["read"] = read(self.rows.select(indices))
        batch["targets"] = torch.from_numpy(targets.values)
        labelled = np.repeat(self.labelled[indices], targets.lengths)
        batch["labelled"] = torch.from_numpy(labelled)
        if self.teacher is not None:
            batch |= self._of_teacher(self.teacher, indices)
        return batch

    def _of_teacher(self, teacher: TeacherOutputs, indices: list[int]) -> dict[str, Tensor]:
        outputs, states = teacher.outputs.select(indices), teacher.states.select(indices)
        first = np.repeat(outputs.starts[:-1], states.lengths)
        return {
            "teacher_outputs": torch.from_numpy(outputs.values),
            "teacher_states": torch.from_numpy(states.values).float(),
            "with_states": torch.from_numpy(first + kept_places(outputs.lengths)),
        }


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
