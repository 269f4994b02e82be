"""What is written down before the test split is opened, so that nothing is chosen afterwards."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from miaotui.models.latency_table import LatencyTable
from miaotui.search.context import Context, write_json
from miaotui.search.outcome import Outcome
from miaotui.search.sensitivity import Sensitivity
from miaotui.search.trials import Trial, TrialStore

_OPENED_BEFORE = (
    "the test rows may have been opened before, by an earlier run asked otherwise: its choice was "
    "not looked at, but this one is not the first to be tested on them"
)


def frozen_outcome(
    context: Context, asked: Mapping[str, Any], search: Callable[[], Outcome]
) -> Outcome:
    """What `search` finds, frozen; or what an interrupted run froze that was asked the same, whose
    test rows may have been opened already: then nothing is searched any more.

    `asked` is all that bears on the choice, as JSON would have it.
    """
    path = context.work / f"frozen-{context.fingerprint}.json"
    frozen = _read(path)
    if frozen is not None and frozen["asked"] == json.loads(json.dumps(asked)):
        thawed = _thaw(context, frozen)
        if thawed is not None:
            return thawed
    outcome = search()
    if frozen is not None:
        outcome = replace(outcome, notes=(*outcome.notes, _OPENED_BEFORE))
    write_json(path, {"asked": asked, **_facts(outcome)})
    return outcome


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "trials": [trial.recipe.key for trial in outcome.trials],
        "baseline": outcome.baseline.recipe.key,
        "candidates": [trial.recipe.key for trial in outcome.candidates],
        "latency": None if outcome.latency is None else outcome.latency.to_json(),
        "table_error": outcome.table_error,
        "sensitivity": [asdict(entry) for entry in outcome.sensitivity],
        "notes": list(outcome.notes),
    }


def _thaw(context: Context, facts: dict[str, Any]) -> Outcome | None:
    """None where a trial that was frozen is no longer there."""
    store = TrialStore(context.work / "trials", context.fingerprint)
    known: dict[str, Trial] = {trial.recipe.key: trial for trial in store}
    if not set(facts["trials"]) | {facts["baseline"], *facts["candidates"]} <= set(known):
        return None
    return Outcome(
        trials=tuple(known[key] for key in facts["trials"]),
        baseline=known[facts["baseline"]],
        candidates=tuple(known[key] for key in facts["candidates"]),
        latency=LatencyTable.from_json(facts["latency"]) if facts["latency"] else None,
        table_error=facts["table_error"],
        sensitivity=tuple(Sensitivity(**entry) for entry in facts["sensitivity"]),
        notes=tuple(facts["notes"]),
    )
