"""What every trial of one search shares: the original, its rows, the machine, where to work."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from miaotui.engines.base import Workload
from miaotui.engines.workload import workload_of
from miaotui.hardware import Machine
from miaotui.measure.judge import OutputsJudge, Split
from miaotui.models.latency_table import LatencyTable
from miaotui.models.model import Calibration, Model
from miaotui.paths import write_whole
from miaotui.tasks.base import EncodedRows


@dataclass(frozen=True)
class Context:
    """One search. `work` keeps trials and models, so that the next run goes on where this ended."""

    model: Model
    machine: Machine
    cores: int
    judge: OutputsJudge
    train: Calibration
    validation: Calibration
    unlabelled: EncodedRows | None
    selection: Split
    test_rows: int
    """How many will decide; they are not looked at before."""
    work: Path
    fingerprint: str
    seed: int

    @property
    def workload(self) -> Workload:
        """What engines go by when they suggest settings."""
        most = self.model.task.max_tokens
        return workload_of(self.train.rows.lengths, self.machine, self.cores, most)

    def with_latency(self, table: LatencyTable | None) -> "Context":
        """The same with what techniques may know of the runtime's time."""
        return replace(self, train=replace(self.train, latency=table))

    @property
    def longest_row(self) -> int:
        """Tokens of the longest training row."""
        return int(self.train.rows.lengths.max(initial=1))


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, so that an interrupted search never reads half a file."""
    write_whole(path, json.dumps(content))
