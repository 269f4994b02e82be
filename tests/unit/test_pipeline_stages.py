"""What the card says of a cascade's stages, and what drift is measured against."""

from pathlib import Path

import numpy as np
import pytest

import tiny_encoder
from miaotui.cascade import Cascade, Stage, Stages, read_stages, write_stages
from miaotui.engines.base import RowRunner
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.measure.judge import Split, judge_for
from miaotui.pipeline.stages import StageRows, measure_stages, record_stages, sentence
from miaotui.tasks.base import EncodedRows, encoded_rows
from miaotui.tasks.outputs import Outputs, one_a_row

STAGE = Stage(engine=OnnxRuntimeEngine(), threshold=1.0)
FACTS = Stages(confidence="margin", stages=(STAGE, STAGE))
ROWS = encoded_rows([[number] for number in range(100)])


class Knows(RowRunner):
    """Answers the first label, sure of it up to a row's number."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def run(self, rows: EncodedRows) -> Outputs:
        sure = np.where(rows.ids < self._rows, 2.0, 0.5)
        return one_a_row(np.stack([sure, np.zeros(len(rows))], axis=1).astype(np.float32))

    def close(self) -> None: ...


CASCADE = Cascade([Knows(60), Knows(90)], Knows(100), FACTS)


def test_each_stage_is_judged_by_the_rows_that_it_answered() -> None:
    """60 rows for the first, all right; 30 for the second, a third wrong; 10 are too few."""
    targets = np.zeros(100, dtype=np.int64)
    targets[60:70] = 1
    outputs = CASCADE.run(ROWS)
    test = Split([""] * 100, ROWS, one_a_row(targets), outputs)
    found = measure_stages(CASCADE, test, outputs, judge_for(tiny_encoder.model().task))
    assert found == [StageRows(60, 1.0), StageRows(30, pytest.approx(2 / 3)), StageRows(10, None)]
    assert sentence(found, "accuracy") == (
        "a cascade: its first stage answers 60% (accuracy 1.000) of the test rows, "
        "the next 30% (accuracy 0.667), the last 10%"
    )


def test_a_stage_remembers_its_share_of_the_rows_that_reach_it(tmp_path: Path) -> None:
    write_stages(tmp_path, FACTS)
    record_stages(tmp_path, CASCADE, [StageRows(60, 1.0), StageRows(30, 0.7), StageRows(10, None)])
    told = read_stages(tmp_path)
    assert told is not None
    assert told.test_rows == 100
    assert [stage.answered for stage in told.stages] == [0.6, 0.75]
