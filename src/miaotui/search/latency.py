"""A latency table for one runtime: blocks timed at a grid of heads and neurons kept."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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

_ROWS = 192
_SINGLE_ROWS = 48
_HEAD_SHARES, _FFN_SHARES = (0.17, 0.34, 0.5, 0.67, 0.84, 1.0), (0.06, 0.25, 0.5, 0.75, 1.0)
_REPEATS = 5
"""Depth of the stack whose time is divided by: a block alone is too short to time."""
_DEPTH = 4


def stored_table(
    context: Context, runtime: Recipe, one_by_one: bool, seconds: float
) -> tuple[LatencyTable, float]:
    """The table of a runtime and its error on the whole encoder, timed once a search."""
    kind = "single" if one_by_one else "bulk"
    path = context.work / f"latency-{context.fingerprint}-{runtime.key}-{kind}.json"
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return LatencyTable.from_json(stored["table"]), stored["error"]
    table = latency_table(context, runtime, one_by_one, seconds)
    error = table_error(context, runtime, one_by_one, table)
    write_json(path, {"table": table.to_json(), "error": error})
    return table, error


def latency_table(
    context: Context, runtime: Recipe, one_by_one: bool = False, seconds: float = 60.0
) -> LatencyTable:
    """Times stacks of equal blocks in the runtime's own engine, layout and precision; rows all
    together, or one by one where it is the latency that counts.

    Depth `_DEPTH + 1` against 1 gives a middle layer's time; the last layer's is what one layer
    takes over none. The ends of each grid are timed first; the rest while `seconds` last.
    """
    ends = time.monotonic() + seconds
    shape, rows = context.model.encoder.shape, _rows(context, one_by_one)
    most_heads = max(layer.heads for layer in shape.layers)
    most_ffn = max(layer.ffn for layer in shape.layers)

    def timed(layers: tuple[LayerShape, ...]) -> float:
        return _seconds_of(context, runtime, replace(shape, layers=layers), rows) * 1e3

    fixed = timed((LayerShape(0, 0),))
    heads, last_heads, ffn, last_ffn = ({0: 0.0} for _ in range(4))
    grid = [LayerShape(count, 0) for count in _grid(most_heads, _HEAD_SHARES)]
    grid += [LayerShape(0, count) for count in _grid(most_ffn, _FFN_SHARES)]
    whole = [LayerShape(most_heads, 0), LayerShape(0, most_ffn)]
    for layer in [*whole, *(entry for entry in grid if entry not in whole)]:
        if time.monotonic() > ends and layer not in whole:
            break
        middle, last = _block(timed, layer, fixed)
        if layer.heads:
            heads[layer.heads], last_heads[layer.heads] = middle, last
        elif layer.ffn:
            ffn[layer.ffn], last_ffn[layer.ffn] = middle, last
    return LatencyTable(
        heads=lower_envelope(heads),
        ffn=lower_envelope(ffn),
        last_heads=lower_envelope(last_heads),
        last_ffn=lower_envelope(last_ffn),
        fixed_ms=fixed,
        conditions={
            "runtime": runtime.title,
            "rows": sum(len(part) for part in rows),
            "tokens": sum(part.total_tokens for part in rows),
            "one_by_one": one_by_one,
        },
    )


def lower_envelope(times: dict[int, float]) -> dict[int, float]:
    """A smaller block is never slower than a larger one: what says so was disturbed."""
    counts = sorted(times)
    falling = np.minimum.accumulate([times[count] for count in reversed(counts)])
    return dict(zip(counts, map(float, reversed(falling)), strict=True))


def table_error(context: Context, runtime: Recipe, one_by_one: bool, table: LatencyTable) -> float:
    """Predicted over measured time of the whole unpruned encoder, minus one."""
    shape = context.model.encoder.shape
    measured = _seconds_of(context, runtime, shape, _rows(context, one_by_one)) * 1e3
    return table.predict(shape) / measured - 1


def _block(
    timed: Callable[[tuple[LayerShape, ...]], float], layer: LayerShape, fixed: float
) -> tuple[float, float]:
    one, many = timed((layer,)), timed((layer,) * (_DEPTH + 1))
    return max((many - one) / _DEPTH, 0.0), max(one - fixed, 0.0)


def _grid(most: int, shares: tuple[float, ...]) -> list[int]:
    return sorted({max(1, round(most * share)) for share in shares})


def _rows(context: Context, one_by_one: bool) -> list[EncodedRows]:
    """Training rows, lengths as they come: one part that fills a few batches, or single rows."""
    rows = context.train.rows
    if one_by_one:
        return [rows.select([i]) for i in range(min(_SINGLE_ROWS, len(rows)))]
    return [rows.select(range(min(_ROWS, len(rows))))]


def _seconds_of(
    context: Context, runtime: Recipe, shape: EncoderShape, rows: Sequence[EncodedRows]
) -> float:
    """The fastest of a few runs over `rows` of a random encoder of this shape."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Encoder(shape, context.model.encoder.parts).eval()
    model = Model(encoder, context.model.task, context.model.family)
    for step in runtime.quantizing:
        whole = step.skipping((), "fp32")  # layers are not those that it leaves out
        model = whole.prepare(model, context.train.first(16))
    folder = context.work / "engines" / "table"
    with build_and_open(runtime.engine, model, context, folder) as session:
        return _fastest(session, rows)


def _fastest(session: RowRunner, rows: Sequence[EncodedRows]) -> float:
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        for part in rows:
            session.run(part)
        times.append(time.perf_counter() - began)
    return float(np.min(times[1:]))
