"""What benchmarks add to the main job's rivals answers as the original does."""

from pathlib import Path

import numpy as np
import pytest

from demand import missing
from miaotui.engines.base import Session
from miaotui.hardware import probe
from miaotui.models.load import find_model, load_config, load_transformers
from miaotui.models.model import PaddedClassifier
from miaotui.rivals import MORE_RIVALS, Rival, Stock
from miaotui.rivals.torch_compile import TorchCompile
from tiny import hf_logits, random_rows, save_tiny

ROWS = random_rows((7, 1, 23, 40, 2, 23, 12, 12, 31), pairs=True)
SHARE = 0.05
"""Of the spread of the original's logits, by which a rival in int8 or bf16 may differ."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("rivals") / "model")


QUICK = [rival for rival in MORE_RIVALS if not isinstance(rival, TorchCompile)]
"""torch.compile takes minutes; benchmarks/rivals.py compares its labels with the original's."""


@pytest.mark.parametrize("rival", QUICK, ids=lambda rival: rival.name)
def test_a_rival_answers_as_the_original(rival: Rival, folder: Path, tmp_path: Path) -> None:
    reason = rival.unavailable(probe())
    if reason is not None:
        missing(rival.name, reason)
    source = find_model(str(folder))
    module = PaddedClassifier(load_transformers(source, load_config(source)), True).eval()
    runner = rival.runner(Stock(module, ROWS, tmp_path, 1))

    expected = hf_logits(folder, ROWS, types=True)
    for layout in rival.layouts([1, 4]):
        found = Session(runner, layout).run(ROWS)
        assert np.abs(found - expected).max() <= SHARE * np.ptp(expected)
