"""The ways to run a bundle on a machine: engines, number formats, layouts, streams, threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from miaotui.cascade import Part
from miaotui.engines import ENGINES, Engine, engine_adapter, with_settings
from miaotui.engines.base import EngineBase, Workload
from miaotui.engines.layouts import Bucketed, Layout, Packed
from miaotui.engines.stored import Stored
from miaotui.errors import EngineUnavailable, MiaotuiError
from miaotui.hardware import Machine
from miaotui.host import Made, lowered, stored_of


@dataclass(frozen=True)
class Option:
    """One way to run all parts; `files` names how they were lowered."""

    parts: tuple[Part, ...]
    files: str

    @property
    def title(self) -> str:
        named = dict.fromkeys(_title(part.engine) for part in self.parts)
        return f"{' then '.join(named)}{self.files}"


def all_options(
    made: Made, work: Workload, draft: Path, refused: dict[str, str]
) -> Iterator[Option]:
    """The bundle as made, then every engine that is here, in the stored formats and in floats, in
    packed blocks and in buckets. What cannot be lowered is noted in `refused`."""
    machine = work.machine
    own = tuple(Part(part.engine.suited(machine), part.folder) for part in made.parts)
    yield Option(own, " as made")
    names = {part.engine.name for part in made.parts}
    try:
        stored = [stored_of(part, made.task, machine) for part in made.parts]
    except EngineUnavailable as error:
        refused["other engines"] = str(error)
        return
    formats = [False, True] if any(each.model is not None for each in stored) else [False]
    for name, kind in ENGINES.items():
        if kind.unavailable(machine) is not None or not (kind.builds_fast or name in names):
            continue
        for in_float in formats if kind.builds_fast else [False]:
            files = " in floats" if in_float else ""
            lower = partial(
                _lowered, made, stored, machine, draft / f"{name}{in_float:d}", in_float
            )
            for engine in _settings(name, work, stored):
                try:
                    yield Option(lower(engine), files)
                except MiaotuiError as error:
                    refused[f"{engine.title}{files}"] = str(error)


def _settings(name: str, work: Workload, stored: Sequence[Stored]) -> list[Engine]:
    """The engine by each layout that its files can take."""
    layouts: list[Layout] = [Bucketed(batch=16, edges=work.edges)]
    if all(each.can_pack for each in stored):
        layouts.insert(0, Packed(batch=8, block_tokens=work.block_tokens))
    given = [{"weight_bits": work.weight_bits, "layout": layout} for layout in layouts]
    ways = dict.fromkeys(with_settings(name, each) for each in given)
    return [way.suited(work.machine) for way in ways]


def _lowered(  # noqa: PLR0913  (as `lowered`)
    made: Made,
    stored: Sequence[Stored],
    machine: Machine,
    folder: Path,
    in_float: bool,
    engine: Engine,
) -> tuple[Part, ...]:
    return tuple(
        lowered(part, engine, each, folder / str(number), machine, in_float)
        for number, (part, each) in enumerate(zip(made.parts, stored, strict=True))
    )


def refined(work: Workload, one_by_one: bool, option: Option) -> list[Option]:
    """Other layouts, streams and threads for one that leads."""
    engine = option.parts[-1].engine
    can_pack = _CanPack(isinstance(getattr(engine, "layout", None), Packed))
    settings: list[EngineBase] = list(engine.refined(can_pack, work, one_by_one))
    threads = {1, max(1, work.cores // 2), work.cores}
    settings += [engine.model_copy(update={"threads": count}) for count in sorted(threads)]
    checked = [engine_adapter.validate_python(each) for each in settings]
    return [Option(_with(option.parts, engine, each), option.files) for each in checked]


def _with(parts: Sequence[Part], before: Engine, after: Engine) -> tuple[Part, ...]:
    """Those parts that are the engine's by what is set otherwise; what their weights are stays."""
    names = [n for n in type(after).model_fields if getattr(after, n) != getattr(before, n)]
    changes = {name: getattr(after, name) for name in names}
    return tuple(
        replace(part, engine=part.engine.model_copy(update=changes))
        if part.engine.name == after.name
        else part
        for part in parts
    )


@dataclass(frozen=True)
class _CanPack:
    can_pack: bool


def _title(engine: Engine) -> str:
    """Its own, the sizes of its layout, and its threads where they are not all."""
    layout = getattr(engine, "layout", None)
    sizes = ""
    if layout is not None:
        room = getattr(layout, "block_tokens", None)
        sizes = f" of {layout.batch}" + ("" if room is None else f" by {room} tokens")
    threads = "" if engine.threads is None else f", threads {engine.threads}"
    return f"{engine.title}{sizes}{threads}"
