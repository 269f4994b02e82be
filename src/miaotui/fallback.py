"""Opens a bundle where it cannot run as it was made: by the first of the engines here that answers
its golden rows as they were answered."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from miaotui.cascade import Part
from miaotui.engines import ENGINES, Engine, with_settings
from miaotui.engines.layouts import Bucketed
from miaotui.engines.stored import Stored
from miaotui.errors import EngineUnavailable, MiaotuiError
from miaotui.golden import Nearness
from miaotui.hardware import Machine
from miaotui.host import (
    Made,
    Placed,
    drafts,
    keep_choice,
    lowered,
    opened,
    read_choice,
    stored_of,
)

MOST_DIVERGENCE = 0.05
"""How far a fallback, which computes the bundle's own weights in floats, may be from the golden
answers (`Task.divergence`): int8 answers of one and the same model differ from its float ones in
one or two of a hundred."""
_MOST_TOLD = 3
_SURE_EDGES = (16, 32, 64, 128, 256, 512)


def placed(made: Made, machine: Machine, cores: int) -> Placed:
    """As tuned before, else as made; where something here cannot run that, by the first fallback
    that answers the golden rows as they were answered. An EngineUnavailable where there is none."""
    known, reasons = read_choice(made, machine), _reasons(made.parts, machine)
    is_wanted = known is not None and (known.is_tuned or any(reasons))
    if known is not None and is_wanted and not any(_reasons(known.parts, machine)):
        return known
    if not any(reasons):
        return Placed(made.parts)
    return _fallback(made, machine, cores, reasons)


def _reasons(parts: Sequence[Part], machine: Machine) -> list[str | None]:
    """Why each is not to be run here as it is; None where it is."""
    return [part.engine.unsuited(part.folder, machine) for part in parts]


def _fallback(made: Made, machine: Machine, cores: int, reasons: Sequence[str | None]) -> Placed:
    wanted = Placed(made.parts).title
    why = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    refusals: dict[str, None] = {}
    stored: dict[Part, Stored] = {}
    with drafts() as draft:
        for number, substitute in enumerate(_substitutes(made, machine, reasons)):
            try:
                parts = _substituted(
                    made, machine, reasons, substitute, stored, draft / str(number)
                )
                near = _nearness(made, parts, cores)
            except MiaotuiError as error:
                refusals[str(error)] = None
                continue
            if near is not None and near.divergence > MOST_DIVERGENCE:
                refusals[f"{substitute.title} answers {1 - near.agreement:.0%} otherwise"] = None
                continue
            found = Placed(parts)
            said = (
                f"{found.title} stands in for {wanted} {_told(near)} ({why}); "
                "miaotui bench --retune chooses what is fastest here"
            )
            chosen = replace(found, said=said)
            keep_choice(made, machine, chosen)
            return read_choice(made, machine) or chosen
    first = "; ".join(list(refusals)[:_MOST_TOLD])
    tried = f"; nothing else here runs it: {first}" if refusals else ""
    raise EngineUnavailable(f"{made.folder} runs on {wanted}: {why}{tried}")


def _told(near: Nearness | None) -> str:
    if near is None:
        return "unchecked, for want of golden rows"
    return f"and answers {near.agreement:.1%} of {near.inputs} golden rows alike"


def _substituted(  # noqa: PLR0913  (what is replaced, where, by what, of what)
    made: Made,
    machine: Machine,
    reasons: Sequence[str | None],
    substitute: Engine,
    stored: dict[Part, Stored],
    draft: Path,
) -> tuple[Part, ...]:
    """Those parts that cannot run here by the substitute, the others as made. `stored` keeps what
    was read of each."""
    parts = []
    for number, (part, reason) in enumerate(zip(made.parts, reasons, strict=True)):
        if reason is not None:
            if part not in stored:
                stored[part] = stored_of(part, made.task, machine)
            part = lowered(
                part, substitute, stored[part], draft / str(number), machine, in_float=True
            )
            still = part.engine.unsuited(part.folder, machine)
            if still is not None:
                raise EngineUnavailable(f"{substitute.name}: {still}")
        parts.append(part)
    return tuple(parts)


def _substitutes(made: Made, machine: Machine, reasons: Sequence[str | None]) -> Iterator[Engine]:
    """The engine's own settings that suit the machine, then every engine that is here, each by the
    bundle's layout and by buckets."""
    own = next(p.engine for p, reason in zip(made.parts, reasons, strict=True) if reason)
    if own.suited(machine) != own:
        yield own.suited(machine)
    edges = tuple(sorted({min(edge, made.task.max_tokens) for edge in _SURE_EDGES}))
    buckets = Bucketed(batch=16, edges=edges)
    layout = getattr(own, "layout", None)
    layouts = [layout, buckets] if layout is not None and made.golden is not None else [buckets]
    for name, kind in ENGINES.items():
        if kind.builds_fast and kind.unavailable(machine) is None:
            ways = dict.fromkeys(with_settings(name, {"layout": one}) for one in layouts)
            yield from (way.suited(machine) for way in ways)


def _nearness(made: Made, parts: Sequence[Part], cores: int) -> Nearness | None:
    """To the golden rows; None where there are none: then it is opened alone."""
    with opened(parts, made, cores) as runner:
        return None if made.golden is None else made.golden.nearness(made.task, runner)
