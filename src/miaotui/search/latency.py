"""A latency table for one runtime: blocks timed at a grid of heads and neurons kept."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from miaotui.engines.base import RowRunner
from miaotui.models.encoder import Encoder
from miaotui.models.latency_table import LatencyTable
from miaotui.models.model import Model
from miaotui.models.shape import EncoderShape, LayerShape
from miaotui.recipe import Recipe
from miaotui.search.build import build_and_open
from miaotui.search.context import Context, write_json
from miaotui.tasks.base import EncodedRows

_ROWS, _FEWEST_ROWS, _WHOLE_S = 192, 48, 0.1
"""Rows that are timed: fewer where the whole encoder takes longer over them."""
_SINGLE_ROWS = 48
_HEAD_SHARES, _FFN_SHARES = (0.17, 0.34, 0.5, 0.67, 0.84, 1.0), (0.06, 0.25, 0.5, 0.75, 1.0)
_TURNS = 5
_STACKS = 12
"""How many stacks the time must allow for: fewer turns each where they take longer."""
_DEPTH = 4
"""Depth of the stack whose time is divided by: a block alone is too short to time."""


def stored_table(
    context: Context, runtime: Recipe, one_by_one: bool, seconds: float
) -> tuple[LatencyTable, float]:
    """The table of a runtime and its error on the whole encoder, timed once a search."""
    kind = "single" if one_by_one else "bulk"
    path = context.work / f"latency-{context.fingerprint}-{runtime.key}-{kind}.json"
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return LatencyTable.from_json(stored["table"]), stored["error"]
    table, error = latency_table(context, runtime, one_by_one, seconds)
    write_json(path, {"table": table.to_json(), "error": error})
    return table, error


def latency_table(
    context: Context, runtime: Recipe, one_by_one: bool = False, seconds: float = 60.0
) -> tuple[LatencyTable, float]:
    """Times stacks of equal blocks in the runtime's own engine, layout and precision, rows all
    together, or one by one where it is the latency that counts; and says how far the table's
    prediction of the whole unpruned encoder is from its time: predicted over measured, minus one.

    Depth `_DEPTH + 1` against 1 gives a middle layer's time; the last layer's is what one layer
    takes over none. The ends of each grid are timed first; the rest while `seconds` last. The whole
    encoder is open all the while and timed in turns with each stack: a processor that slows down
    between the first block and the last slows both.
    """
    ends = time.monotonic() + seconds
    shape = context.model.encoder.shape
    most_heads = max(layer.heads for layer in shape.layers)
    most_ffn = max(layer.ffn for layer in shape.layers)
    with _opened(context, runtime, shape, "table-whole") as whole:
        clock = _Clock(
            context, runtime, whole, _rows(context, one_by_one, whole), seconds / _STACKS
        )
        fixed = clock.milliseconds((LayerShape(0, 0),))
        heads, last_heads, ffn, last_ffn = ({0: 0.0} for _ in range(4))
        grid = [LayerShape(count, 0) for count in _grid(most_heads, _HEAD_SHARES)]
        grid += [LayerShape(0, count) for count in _grid(most_ffn, _FFN_SHARES)]
        widest = [LayerShape(most_heads, 0), LayerShape(0, most_ffn)]
        for layer in [*widest, *(entry for entry in grid if entry not in widest)]:
            if time.monotonic() > ends and layer not in widest:
                break
            one, many = clock.milliseconds((layer,)), clock.milliseconds((layer,) * (_DEPTH + 1))
            middle, last = max((many - one) / _DEPTH, 0.0), max(one - fixed, 0.0)
            if layer.heads:
                heads[layer.heads], last_heads[layer.heads] = middle, last
            elif layer.ffn:
                ffn[layer.ffn], last_ffn[layer.ffn] = middle, last
    table = LatencyTable(
        heads=lower_envelope(heads),
        ffn=lower_envelope(ffn),
        last_heads=lower_envelope(last_heads),
        last_ffn=lower_envelope(last_ffn),
        fixed_ms=fixed,
        conditions={
            "runtime": runtime.title,
            "rows": sum(len(part) for part in clock.rows),
            "tokens": sum(part.total_tokens for part in clock.rows),
            "one_by_one": one_by_one,
        },
    )
    return table, table.predict(shape) / (clock.whole_s * 1e3) - 1


@dataclass
class _Clock:
    """Times encoders in turns with the whole one, for about `longest_s` each; `whole_s` is what
    that took at the first of them, and all others are told as if it always took as long."""

    context: Context
    runtime: Recipe
    whole: RowRunner
    rows: Sequence[EncodedRows]
    longest_s: float
    whole_s: float = 0.0

    def milliseconds(self, layers: tuple[LayerShape, ...]) -> float:
        """The fastest of a few runs over the rows, of a random encoder of these layers."""
        shape = replace(self.context.model.encoder.shape, layers=layers)
        began = time.monotonic()
        with _opened(self.context, self.runtime, shape, "table") as session:
            turns = [self._turn(session), self._turn(session)]
            while len(turns) < _TURNS and time.monotonic() - began < self.longest_s:
                turns.append(self._turn(session))
        own_s = min(own for own, _ in turns[1:])
        whole_s = min(whole for _, whole in turns[1:])
        self.whole_s = self.whole_s or whole_s
        return own_s / whole_s * self.whole_s * 1e3

    def _turn(self, session: RowRunner) -> tuple[float, float]:
        return _timed(session, self.rows), _timed(self.whole, self.rows)


def lower_envelope(times: dict[int, float]) -> dict[int, float]:
    """A smaller block is never slower than a larger one: what says so was disturbed."""
    counts = sorted(times)
    falling = np.minimum.accumulate([times[count] for count in reversed(counts)])
    return dict(zip(counts, map(float, reversed(falling)), strict=True))


def _grid(most: int, shares: tuple[float, ...]) -> list[int]:
    return sorted({max(1, round(most * share)) for share in shares})


def _rows(context: Context, one_by_one: bool, whole: RowRunner) -> list[EncodedRows]:
    """Training rows, lengths as they come: one part that fills a few batches, or single rows."""
    rows = context.train.rows
    if one_by_one:
        return [rows.select([i]) for i in range(min(_SINGLE_ROWS, len(rows)))]
    most = rows.select(range(min(_ROWS, len(rows))))
    taken_s = min(_timed(whole, [most]) for _ in range(2))
    fewer = int(_WHOLE_S / taken_s * len(most))
    return [most.select(range(min(max(fewer, _FEWEST_ROWS), len(most))))]


@contextmanager
def _opened(
    context: Context, runtime: Recipe, shape: EncoderShape, folder: str
) -> Iterator[RowRunner]:
    """A random encoder of this shape in the runtime."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(shape, context.model.encoder.parts).eval()
    model = Model(encoder, context.model.task, context.model.family)
    for step in runtime.quantizing:
        whole = step.skipping((), "fp32")  # layers are not those that it leaves out
        model = whole.prepare(model, context.train.first(16))
    place = context.work / "engines" / folder
    with build_and_open(runtime.engine, model, context, place) as session:
        yield session


def _timed(session: RowRunner, rows: Sequence[EncodedRows]) -> float:
    began = time.perf_counter()
    for part in rows:
        session.run(part)
    return time.perf_counter() - began
