"""Tiny bundles of one engine, with golden rows and the facts that others read of them, and machines
that lack something."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import tiny_encoder
from miaotui.bundle import Bundle, read_bundle, write_bundle
from miaotui.cascade import ENGINE_FOLDER
from miaotui.engines import Engine
from miaotui.golden import Golden, write_golden
from miaotui.hardware import Machine, probe
from miaotui.models.model import Model
from miaotui.models.precision import Kind, LinearPrecision, Precision
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.saved import save_task

ROWS = tiny_encoder.rows(60, seed=1)


def in_kind(kind: Kind, seed: int = 0) -> Model:
    """A tiny encoder whose layers compute in one number format."""
    from miaotui.models.model import linears

    model = tiny_encoder.model(2, seed=seed)
    wide = {"low": -8.0, "high": 8.0} if kind is Kind.INT8_STATIC else {}
    names = [name for name in linears(model.encoder) if name.startswith("layers.")]
    return replace(model, precision=Precision({n: LinearPrecision(kind, **wide) for n in names}))


def made_by(
    out: Path,
    engine: Engine,
    model: Model,
    golden: bool = True,
    shift: float = 0.0,
    objective: str = "throughput",
    recorded: Engine | None = None,
) -> Bundle:
    """A bundle that `engine` made here, as if by the settings `recorded`. `shift` is added to
    what the golden rows gave of the first label, so that nothing answers them as they were
    answered."""

    def fill(draft: Path) -> Mapping[str, Any]:
        save_task(model.task, draft)
        engine.build(model, None, draft / ENGINE_FOLDER)
        result = json.dumps({"speed": {"objective": objective}})
        (draft / "result.json").write_text(result, encoding="utf-8")
        if golden:
            with engine.open(draft / ENGINE_FOLDER, 1) as runner:
                values = runner.run(ROWS).values + np.float32([shift, 0])
            write_golden(draft, Golden(ROWS, one_a_row(values)))
        lengths, counts = np.unique(ROWS.lengths, return_counts=True)
        machine = probe()
        return {
            "engine": (recorded or engine).model_dump(mode="json"),
            "environment": asdict(machine)
            | {"instruction_set": machine.instruction_set, "cores": 1},
            "longest_row": 20,
            "lengths": dict(zip(map(str, lengths), map(int, counts), strict=True)),
            "measured": {"engine_rows_per_s": 1.0},
        }

    return read_bundle(write_bundle(out, fill))


def lacking(*packages: str, isa: tuple[str, ...] | None = None) -> Machine:
    """This machine without some packages, or with another instruction set."""
    here = probe()
    versions = {name: v for name, v in here.versions.items() if name not in packages}
    return replace(here, versions=versions, isa=here.isa if isa is None else isa)
