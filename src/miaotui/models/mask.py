"""Which heads and neurons to keep: the least importance removed within a time."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from miaotui.models.importance import Importance
from miaotui.models.latency_table import LatencyTable

_HALVINGS = 60


@dataclass(frozen=True)
class Mask:
    """Indices kept in each layer, ascending."""

    heads: tuple[Int[Tensor, " kept"], ...]
    neurons: tuple[Int[Tensor, " kept"], ...]


@dataclass(frozen=True)
class _Choices:
    """One block's options: how many to keep, the importance then removed, the time then taken."""

    counts: list[int]
    removed: Float64[ndarray, " options"]
    time: Float64[ndarray, " options"]

    def best(self, price: float) -> int:
        return int(np.argmin(self.removed + price * self.time))


@dataclass(frozen=True)
class Least:
    """What each layer keeps at least, if it has as much."""

    heads: int = 0
    neurons: int = 0


def best_mask(
    importance: Importance,
    table: LatencyTable,
    keep_time: float,
    round_neurons_to: int = 32,
    least: Least = Least(),
) -> Mask:
    """Minimises the importance removed while the blocks take at most `keep_time` of their time.

    Blocks add up, so a price on time parts the problem into one choice a block (Lagrangian
    relaxation); the lowest price that fits is found by bisection.
    """
    blocks = _blocks(importance, table, round_neurons_to, least)
    allowed = keep_time * sum(block.time[-1] for block in blocks) * (1 + 1e-9)
    chosen = _cheapest_price(blocks, allowed)
    kept = [block.counts[i] for block, i in zip(blocks, chosen, strict=True)]
    heads = tuple(_top(s, n) for s, n in zip(importance.heads, kept[0::2], strict=True))
    neurons = tuple(_top(s, n) for s, n in zip(importance.neurons, kept[1::2], strict=True))
    return Mask(heads, neurons)


def _blocks(importance: Importance, table: LatencyTable, step: int, least: Least) -> list[_Choices]:
    last = len(importance.heads) - 1
    blocks = []
    for i, (heads, neurons) in enumerate(zip(importance.heads, importance.neurons, strict=True)):
        counts = list(range(min(least.heads, len(heads)), len(heads) + 1))
        times = [table.attention_ms(n, i == last) for n in counts]
        blocks.append(_choices(heads, counts, times))
        fewest = min(least.neurons, len(neurons))
        counts = sorted({fewest, *range(-(-fewest // step) * step, len(neurons), step)})
        counts = sorted({*counts, len(neurons)})
        times = [table.ffn_ms(n, i == last) for n in counts]
        blocks.append(_choices(neurons, counts, times))
    return blocks


def _choices(scores: Float[Tensor, " n"], counts: list[int], times: list[float]) -> _Choices:
    ascending = np.sort(scores.double().numpy())
    removed = np.concatenate([[0.0], np.cumsum(ascending)])
    lost = np.array([removed[len(ascending) - n] for n in counts])
    return _Choices(counts, lost, np.maximum.accumulate(np.array(times)))


def _cheapest_price(blocks: list[_Choices], allowed: float) -> list[int]:
    def solved(price: float) -> tuple[list[int], float]:
        chosen = [block.best(price) for block in blocks]
        return chosen, sum(b.time[i] for b, i in zip(blocks, chosen, strict=True))

    everything = [len(block.counts) - 1 for block in blocks]
    if sum(block.time[-1] for block in blocks) <= allowed:
        return everything
    low, high = 0.0, 1e-12
    while solved(high)[1] > allowed and high < 1e12:
        high *= 10
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if solved(middle)[1] <= allowed else (middle, high)
    return solved(high)[0]


def _top(scores: Float[Tensor, " n"], count: int) -> Int[Tensor, " kept"]:
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values
