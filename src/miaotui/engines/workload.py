"""What engines go by when they suggest settings, told from how long rows are."""

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from miaotui.engines.base import Workload
from miaotui.hardware import Machine


def workload_of(
    lengths: Int64[ndarray, " rows"], machine: Machine, cores: int, most_tokens: int
) -> Workload:
    """Of rows of these lengths for a model that takes at most `most_tokens`: past that its own
    table of positions may end."""

    def possible(edges: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({min(edge, most_tokens) for edge in edges}))

    return Workload(
        machine,
        cores,
        _block_tokens(lengths),
        possible(_edges(lengths)),
        possible(_single_edges(lengths)),
    )


def _block_tokens(lengths: Int64[ndarray, " rows"]) -> int:
    """Room of a packed block: nearly all rows fit, two of the usual length do."""
    wanted = max(float(np.quantile(lengths, 0.99)), 2 * float(lengths.mean()))
    return int(-(-wanted // 32) * 32)


def _edges(lengths: Int64[ndarray, " rows"]) -> tuple[int, ...]:
    """Bucket lengths: quantiles rounded up to eights, then the longest."""
    cuts = np.quantile(lengths, (0.15, 0.35, 0.55, 0.75, 0.9, 0.99))
    rounded = sorted({int(-(-cut // 8) * 8) for cut in cuts})
    return (*rounded, *(e for e in (128, 256, 512) if e > rounded[-1]))


def _single_edges(lengths: Int64[ndarray, " rows"]) -> tuple[int, ...]:
    """Every eighth length up to the longest usual one, then wider steps: for one row a call."""
    longest = int(np.quantile(lengths, 0.995))
    fine = tuple(range(8, longest + 8, 8))[:24]
    return (*fine, *(e for e in (96, 128, 192, 256, 384, 512) if e > fine[-1]))
