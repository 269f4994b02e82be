"""Rows with the outputs they got where a bundle was made, and how near others come to them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from miaotui.engines.base import RowRunner
from miaotui.errors import BundleError
from miaotui.tasks.base import EncodedRows, rows_from_arrays, rows_to_arrays
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.task import Task

GOLDEN_FILE = "golden.safetensors"


@dataclass(frozen=True)
class Nearness:
    """How near outputs are to the golden ones: the share of inputs answered alike, how far the
    answers are apart (`Task.divergence`), the largest difference of a number (None where one is not
    finite), the inputs."""

    agreement: float
    divergence: float
    largest_difference: float | None
    inputs: int


@dataclass(frozen=True)
class Golden:
    """Rows with the outputs they got where the bundle was made."""

    rows: EncodedRows
    outputs: Outputs

    def nearness(self, task: Task, runner: RowRunner) -> Nearness:
        """Runs the rows; what is not finite is like nothing."""
        groups, outputs = self.rows.input_starts, runner.run(self.rows)
        made, found = self.outputs.merged(groups), outputs.merged(groups)
        same = task.same_answers(made, found)
        if not np.isfinite(outputs.values).all():
            return Nearness(float(same.mean()), 1.0, None, len(made))
        largest = float(np.abs(self.outputs.values - outputs.values).max(initial=0.0))
        return Nearness(float(same.mean()), task.divergence(made, found), largest, len(made))


def write_golden(folder: Path, golden: Golden) -> None:
    arrays = {**rows_to_arrays(golden.rows), "logits": golden.outputs.values}
    save_file(arrays, str(folder / GOLDEN_FILE))


def read_golden(folder: Path) -> Golden | None:
    """What `write_golden` wrote, None where it did not; a strange file is a BundleError."""
    path = folder / GOLDEN_FILE
    if not path.exists():
        return None
    try:
        arrays = load_file(str(path))
        rows = rows_from_arrays(arrays)
        return Golden(rows, Outputs(arrays["logits"], rows.readout_starts))
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
