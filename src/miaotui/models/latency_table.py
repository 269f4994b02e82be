"""Time of an encoder as a sum over its blocks; plain data that the search fills."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import TypeAdapter

from miaotui.models.shape import EncoderShape


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one attention or feed-forward block by heads or neurons kept.

    The last layer has entries of its own, since it goes on with readout tokens only. `fixed_ms` is
    all that is not in a block: embeddings, norms, head.
    """

    heads: dict[int, float]
    ffn: dict[int, float]
    last_heads: dict[int, float]
    last_ffn: dict[int, float]
    fixed_ms: float
    conditions: dict[str, str | int | float] = field(default_factory=dict)

    def attention_ms(self, heads: int, last: bool = False) -> float:
        return _interpolate(self.last_heads if last else self.heads, heads)

    def ffn_ms(self, neurons: int, last: bool = False) -> float:
        return _interpolate(self.last_ffn if last else self.ffn, neurons)

    def predict(self, shape: EncoderShape) -> float:
        """Milliseconds of a whole encoder over the rows the table was timed on."""
        last = len(shape.layers) - 1
        blocks = (
            self.attention_ms(layer.heads, i == last) + self.ffn_ms(layer.ffn, i == last)
            for i, layer in enumerate(shape.layers)
        )
        return self.fixed_ms + sum(blocks)

    def to_json(self) -> str:
        return _TABLE.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "LatencyTable":
        return _TABLE.validate_json(text)


_TABLE = TypeAdapter(LatencyTable)


def _interpolate(known: Mapping[int, float], at: int) -> float:
    counts = sorted(known)
    return float(np.interp(at, counts, [known[c] for c in counts]))


def arithmetic_table(shape: EncoderShape, readout_share: float = 0.04) -> LatencyTable:
    """A table of multiply-adds where nothing was timed; `readout_share` is readouts a token."""
    head = shape.hidden * shape.head_dim * 1e-6
    most_heads = max(layer.heads for layer in shape.layers)
    most_ffn = max(layer.ffn for layer in shape.layers)
    neurons = 2 * shape.hidden * most_ffn * 1e-6
    return LatencyTable(
        heads={0: 0.0, most_heads: 4 * head * most_heads},
        ffn={0: 0.0, most_ffn: neurons},
        last_heads={0: 0.0, most_heads: (2 + 2 * readout_share) * head * most_heads},
        last_ffn={0: 0.0, most_ffn: neurons * readout_share},
        fixed_ms=0.0,
        conditions={"unit": "million multiply-adds a token"},
    )
