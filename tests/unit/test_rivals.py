"""What benchmarks add to the main job's rivals answers as the original does; which batches and how
many of them are opened."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_encoder
from demand import missing
from miaotui.engines.base import Session
from miaotui.engines.layouts import Batch
from miaotui.hardware import probe
from miaotui.models.load import find_model, load_config, load_transformers
from miaotui.models.model import PaddedModel
from miaotui.rivals import MORE_RIVALS, RIVALS, Rival, StockModel
from miaotui.rivals.opening import at_best_batch, open_rivals
from miaotui.rivals.torch_compile import TorchCompile
from miaotui.tasks.text_classification import TextClassification
from tiny import hf_logits, random_rows, save_tiny

ROWS = random_rows((7, 1, 23, 40, 2, 23, 12, 12, 31), pairs=True)
SHARE = 0.05
"""Of the spread of the original's logits, by which a rival in int8 or bf16 may differ."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("rivals") / "model")


def stock(folder: Path, exports: Path) -> StockModel:
    source = find_model(str(folder))
    module = PaddedModel(
        load_transformers(source, load_config(source), TextClassification), True
    ).eval()
    return StockModel(module, ROWS, exports, 1)


QUICK = [rival for rival in MORE_RIVALS if not isinstance(rival, TorchCompile)]
"""torch.compile takes minutes; benchmarks/rivals.py compares its labels with the original's."""


@pytest.mark.parametrize("rival", QUICK, ids=lambda rival: rival.name)
def test_a_rival_answers_as_the_original(rival: Rival, folder: Path, tmp_path: Path) -> None:
    reason = rival.unavailable(probe())
    if reason is not None:
        missing(rival.name, reason)
    runner = rival.runner(stock(folder, tmp_path))

    expected = hf_logits(folder, ROWS, types=True)
    for layout in rival.layouts([1, 4]):
        found = Session(runner, layout).run(ROWS).values
        assert np.abs(found - expected).max() <= SHARE * np.ptp(expected)


@pytest.mark.parametrize(
    ("row_ms", "tried", "best"),
    [
        ({8: 0.4, 32: 0.8, 128: 0.1}, {8, 32}, 8),
        ({8: 0.8, 32: 0.4, 128: 0.8}, {8, 32, 128}, 32),
        ({8: 0.8, 32: 0.6, 128: 0.3}, {8, 32, 128}, 128),
    ],
)
def test_no_larger_batch_is_tried_after_a_clearly_slower_one(
    row_ms: dict[int, float], tried: set[int], best: int
) -> None:
    """Each batch takes its rows' time by its size; batches here are full."""
    seen: set[int] = set()

    def run(batch: Batch) -> np.ndarray:
        rows = batch.shape[0]
        if rows in row_ms:
            seen.add(rows)
            time.sleep(rows * row_ms[rows] / 1e3)
        return np.zeros((rows, 1, 2), dtype=np.float32)

    found = at_best_batch(RIVALS[0], run, tiny_encoder.model().task, random_rows((5,) * 256))

    assert seen == tried
    assert found.batch == best


def test_none_is_opened_where_memory_is_held(folder: Path, tmp_path: Path) -> None:
    machine = replace(probe(), memory_usable_bytes=1000)
    able = [rival for rival in RIVALS if rival.unavailable(machine) is None]
    task = tiny_encoder.model().task

    opened, absent = open_rivals(able, stock(folder, tmp_path), task, machine, ROWS, 60.0)

    assert able
    assert not opened
    assert list(absent) == [rival.name for rival in able]
    assert all("no memory was left" in reason for reason in absent.values())
