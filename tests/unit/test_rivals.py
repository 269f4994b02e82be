"""What benchmarks add to the main job's rivals answers as the original does; which batches and how
many of them are opened."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_encoder
from demand import missing
from miaotui.engines.base import Session
from miaotui.engines.layouts import Batch
from miaotui.errors import EngineFailed
from miaotui.hardware import probe
from miaotui.models.load import find_model, load_config, load_transformers
from miaotui.models.model import PaddedModel
from miaotui.rivals import MORE_RIVALS, RIVALS, Rival, StockModel
from miaotui.rivals.opening import OpenRival, at_best_batch, open_rivals
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

    opened = open_rivals(
        able, stock(folder, tmp_path), task, machine, ROWS, lambda _: 0.0, lambda _: 60.0
    )

    assert able
    assert not opened.ready
    assert list(opened.absent) == [rival.name for rival in able]
    assert all("no memory was left" in reason for reason in opened.absent.values())


@pytest.mark.parametrize(("left_s", "ready"), [(60.0, 3), (0.0, 1), (-5.0, 1)])
def test_rivals_are_opened_while_those_that_are_can_still_be_measured(
    left_s: float, ready: int, folder: Path, tmp_path: Path
) -> None:
    """The first of them always."""
    able = [rival for rival in RIVALS if rival.unavailable(probe()) is None][:3]
    asked: list[list[str]] = []

    def seconds_left(opened: Sequence[OpenRival]) -> float:
        asked.append([rival.name for rival in opened])
        return left_s

    task, drops = tiny_encoder.model().task, iter((0.1, 0.2, 0.3))
    found = open_rivals(
        able, stock(folder, tmp_path), task, probe(), ROWS, lambda _: next(drops), seconds_left
    )

    names = [rival.name for rival in able]
    assert [rival.name for rival in found.ready] == names[:ready]
    assert list(found.drops.values()) == [0.1, 0.2, 0.3][:ready]
    assert list(found.absent) == names[ready:]
    assert all("no time was left to open it" in reason for reason in found.absent.values())
    assert asked[0] == names[:1]
    assert all(rival.row_s > 0 and rival.alone_s > 0 for rival in found.ready)


def test_a_rival_that_fails_on_the_test_rows_is_said_to(folder: Path, tmp_path: Path) -> None:
    def fails(_: OpenRival) -> float:
        raise EngineFailed("no such row")

    task = tiny_encoder.model().task
    found = open_rivals(
        RIVALS[:1], stock(folder, tmp_path), task, probe(), ROWS, fails, lambda _: 60.0
    )

    assert (found.ready, found.absent) == ([], {RIVALS[0].name: "no such row"})
