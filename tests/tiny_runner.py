"""A runner of rows that answers nothing and remembers what was asked of it."""

import numpy as np

from miaotui.engines.base import RowRunner
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs


class Noted(RowRunner):
    """`calls` are the names of what was called, with a warm-up's length."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._failure = failure

    def run(self, rows: EncodedRows) -> Outputs:
        self.calls.append("run")
        starts = rows.readout_starts
        return Outputs(np.zeros((starts[-1], 2), dtype=np.float32), starts)

    def warm_up(self, longest: int) -> None:
        self.calls.append(f"warm up {longest}")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self.calls.append("close")
