"""The mask solved against a latency table."""

import itertools

import pytest
import torch

from miaotui.models.importance import Importance
from miaotui.models.latency_table import LatencyTable
from miaotui.models.mask import best_mask
from miaotui.search.latency import lower_envelope


def table() -> LatencyTable:
    return LatencyTable(
        heads={0: 0.0, 3: 3.0},
        ffn={0: 0.0, 4: 8.0},
        last_heads={0: 0.0, 3: 2.0},
        last_ffn={0: 0.0, 4: 1.0},
        fixed_ms=5.0,
    )


def importance(seed: int) -> Importance:
    torch.manual_seed(seed)
    return Importance((torch.rand(3), torch.rand(3)), (torch.rand(4), torch.rand(4)))


def removed(scores: Importance, heads: list[int], neurons: list[int]) -> float:
    lost = 0.0
    for all_scores, kept in ((scores.heads, heads), (scores.neurons, neurons)):
        for values, count in zip(all_scores, kept, strict=True):
            lost += float(values.sort(descending=True).values[count:].sum())
    return lost


def time(heads: list[int], neurons: list[int]) -> float:
    t = table()
    return sum(
        t.attention_ms(h, i == 1) + t.ffn_ms(n, i == 1)
        for i, (h, n) in enumerate(zip(heads, neurons, strict=True))
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keep_time", [0.3, 0.6, 0.9])
def test_fits_and_no_cheaper_mask_is_better(seed: int, keep_time: float) -> None:
    scores = importance(seed)
    mask = best_mask(scores, table(), keep_time, round_neurons_to=1)
    heads, neurons = [len(h) for h in mask.heads], [len(n) for n in mask.neurons]
    assert time(heads, neurons) <= keep_time * 14.0 + 1e-6
    ours = removed(scores, heads, neurons)
    for h1, h2, n1, n2 in itertools.product(range(4), range(4), range(5), range(5)):
        if time([h1, h2], [n1, n2]) <= time(heads, neurons) + 1e-9:
            assert removed(scores, [h1, h2], [n1, n2]) >= ours - 1e-6


def test_prediction_adds_the_blocks_up() -> None:
    import tiny_encoder

    assert table().predict(tiny_encoder.shape(layers=2)) == pytest.approx(5 + 3 + 8 + 2 + 1)
    assert LatencyTable.from_json(table().to_json()) == table()


def test_a_table_that_was_disturbed_is_put_right() -> None:
    """A block of fewer neurons is never slower than one of more."""
    found = lower_envelope({0: 0.0, 2: 10.7, 4: 5.3, 6: 7.9, 12: 7.2})
    assert found == {0: 0.0, 2: 5.3, 4: 5.3, 6: 7.2, 12: 7.2}
