"""What the card says of a cascade's stages, and what drift is measured against."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tiny_encoder
from miaotui.cascade import Stage, Stages, read_stages, write_stages
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.pipeline.stages import StageRows, measure_stages, record_stages, sentence
from miaotui.search.context import Judged
from miaotui.tasks.text_classification import Problem

STAGE = Stage(engine=OnnxRuntimeEngine(), threshold=1.0)
FACTS = Stages(problem=Problem.SINGLE_LABEL, stages=(STAGE, STAGE))


def cascade(answered_by: list[int]) -> SimpleNamespace:
    return SimpleNamespace(facts=FACTS, answered_by=lambda rows: np.array(answered_by))


def test_each_stage_is_judged_by_the_rows_that_it_answered() -> None:
    """100 rows: 60 for the first, all right; 30 for the second, a third wrong; 10 are too few."""
    logits = np.tile(np.float32([1, 0]), (100, 1))
    targets = np.zeros(100, dtype=np.int64)
    targets[60:70] = 1
    test = Judged([""] * 100, tiny_encoder.rows(100), targets, logits)
    found = measure_stages(cascade([0] * 60 + [1] * 30 + [2] * 10), test, logits, "accuracy")  # type: ignore[arg-type]
    assert found == [StageRows(60, 1.0), StageRows(30, pytest.approx(2 / 3)), StageRows(10, None)]
    assert sentence(found, "accuracy") == (
        "a cascade: its first stage answers 60% (accuracy 1.000) of the test rows, "
        "the next 30% (accuracy 0.667), the last 10%"
    )


def test_a_stage_remembers_its_share_of_the_rows_that_reach_it(tmp_path: Path) -> None:
    write_stages(tmp_path, FACTS)
    record_stages(tmp_path, cascade([]), [StageRows(60, 1.0), StageRows(30, 0.7), StageRows(10, 1)])  # type: ignore[arg-type]
    told = read_stages(tmp_path)
    assert told is not None
    assert told.test_rows == 100
    assert [stage.answered for stage in told.stages] == [0.6, 0.75]
