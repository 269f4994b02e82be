"""What every trial of one search shares: the original, its rows, the machine, where to work."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from miaotui.engines.base import Workload
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
        return Workload(self.machine, self.cores, self.block_tokens, self.edges, self.single_edges)

    def with_latency(self, table: LatencyTable | None) -> "Context":
        """The same with what techniques may know of the runtime's time."""
        return replace(self, train=replace(self.train, latency=table))

    @property
    def block_tokens(self) -> int:
        """Room of a packed block: nearly all training rows fit, two of the usual length do."""
        lengths = self.train.rows.lengths
        wanted = max(float(np.quantile(lengths, 0.99)), 2 * float(lengths.mean()))
        return int(-(-wanted // 32) * 32)

    @property
    def longest_row(self) -> int:
        """Tokens of the longest training row."""
        return int(self.train.rows.lengths.max(initial=1))

    @property
    def single_edges(self) -> tuple[int, ...]:
        """Every eighth length up to the longest usual one, then wider steps: for one row a call."""
        longest = int(np.quantile(self.train.rows.lengths, 0.995))
        fine = tuple(range(8, longest + 8, 8))[:24]
        return self._possible((*fine, *(e for e in (96, 128, 192, 256, 384, 512) if e > fine[-1])))

    @property
    def edges(self) -> tuple[int, ...]:
        """Bucket lengths from training rows: quantiles rounded up to eights, then the longest."""
        lengths = self.train.rows.lengths
        cuts = np.quantile(lengths, (0.15, 0.35, 0.55, 0.75, 0.9, 0.99))
        rounded = sorted({int(-(-cut // 8) * 8) for cut in cuts})
        return self._possible((*rounded, *(e for e in (128, 256, 512) if e > rounded[-1])))

    def _possible(self, edges: tuple[int, ...]) -> tuple[int, ...]:
        """No longer than the model takes: past that its own table of positions may end."""
        most = self.model.task.max_tokens
        return tuple(sorted({min(edge, most) for edge in edges}))


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all, so that an interrupted search never reads half a file."""
    write_whole(path, json.dumps(content))
