"""How a bundle runs on this host where that is not as it was made: by a fallback, because something
is missing here, or as `bench --retune` chose.

Whatever that takes lies in the user's cache, for one bundle on one machine with its versions of
everything; the bundle itself is never changed.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miaotui.cascade import Part, Stages, open_parts
from miaotui.engines import Engine
from miaotui.engines.base import RowRunner
from miaotui.engines.stored import NEEDS_TORCH, Stored, has_graph, read_stored
from miaotui.errors import EngineUnavailable, OutputError, first_line
from miaotui.golden import Golden
from miaotui.hardware import Machine, environment_fingerprint
from miaotui.paths import cache_folder, write_whole
from miaotui.tasks.task import Task

CHOICE_FILE = "choice.json"
_EDITION = 1
"""Part of the cache's keys: to be raised with any change of what is lowered there."""
_DRAFT, _ABANDONED_S = ".draft-", 24 * 3600.0
_OF_LIBRARIES = (RuntimeError, ValueError, TypeError, LookupError)
"""What engines' libraries raise of files that they cannot take."""


class PartChoice(BaseModel):
    """A stage's engine, and the folder of its files beside the choice; None: the bundle's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine
    folder: str | None = Field(default=None, pattern=r"^\w[\w.-]*$")


class HostChoice(BaseModel):
    """What the parts of a bundle run as, in the order of `cascade.parts_of`. `cores` are those that
    it was tuned for; `said` is what opening it is to warn of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    parts: tuple[PartChoice, ...]
    is_tuned: bool = False
    cores: int | None = None
    said: str | None = None


@dataclass(frozen=True)
class Made:
    """A bundle as it was made: what it runs on a host must answer like."""

    folder: Path
    digest: str
    parts: tuple[Part, ...]
    stages: Stages | None
    task: Task
    golden: Golden | None


@dataclass(frozen=True)
class Placed:
    """The parts as they run here. `cores` of None: those it was made for."""

    parts: tuple[Part, ...]
    is_tuned: bool = False
    cores: int | None = None
    said: str | None = None

    @property
    def title(self) -> str:
        """Its engines, as they are asked."""
        return " then ".join(dict.fromkeys(part.engine.title for part in self.parts))


def choice_folder(made: Made, machine: Machine) -> Path:
    facts = f"{_EDITION} {made.digest} {environment_fingerprint(machine)}"
    return cache_folder("bundles") / hashlib.sha256(facts.encode()).hexdigest()[:24]


def read_choice(made: Made, machine: Machine) -> Placed | None:
    """What was chosen for this bundle on this machine; None where nothing was, or not whole."""
    folder = choice_folder(made, machine)
    try:
        text = (folder / CHOICE_FILE).read_text(encoding="utf-8")
        choice = HostChoice.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    if len(choice.parts) != len(made.parts):
        return None
    parts = tuple(
        Part(part.engine, own.folder if part.folder is None else folder / part.folder)
        for part, own in zip(choice.parts, made.parts, strict=True)
    )
    if not all(part.folder.is_dir() for part in parts):
        return None
    return Placed(parts, choice.is_tuned, choice.cores, choice.said)


def keep_choice(made: Made, machine: Machine, chosen: Placed) -> None:
    """Writes the choice; files that its parts have outside the bundle are moved beside it first, so
    that whatever interrupts this, the choice before it stands."""
    folder, own = choice_folder(made, machine), {part.folder for part in made.parts}
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = [None if p.folder in own else _kept(p.folder, folder) for p in chosen.parts]
        parts = tuple(
            PartChoice(engine=part.engine, folder=name)
            for part, name in zip(chosen.parts, names, strict=True)
        )
        choice = HostChoice(
            parts=parts, is_tuned=chosen.is_tuned, cores=chosen.cores, said=chosen.said
        )
        write_whole(folder / CHOICE_FILE, choice.model_dump_json(indent=1))
    if chosen.is_tuned:
        for left in folder.iterdir():
            if left.is_dir() and left.name not in names:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def drafts() -> Iterator[Path]:
    """A folder in the cache to lower into, gone at the end with what was not kept."""
    root = cache_folder("bundles")
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(f"{_DRAFT}*"):  # of processes that were killed
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=root))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def lowered(  # noqa: PLR0913  (what of what, by what, into where, for what)
    part: Part, engine: Engine, stored: Stored, folder: Path, machine: Machine, in_float: bool
) -> Part:
    """The part by another engine, suited to the machine; its files are the bundle's own where the
    engine wrote them. Weights that are not lowered again keep the bits that they have."""
    same = engine.name == part.engine.name
    if stored.graph is not None or (same and not in_float):
        engine = _with_bits(engine, part.engine).suited(machine)
    if same and (stored.graph is not None or not in_float):
        return Part(engine, part.folder)
    if not folder.exists():
        with ExitStack() as failed:
            failed.callback(shutil.rmtree, folder, ignore_errors=True)
            stored.lower(engine, folder, in_float)
            failed.pop_all()
    return Part(engine, folder)


def _with_bits(engine: Engine, source: Engine) -> Engine:
    """The engine told the bits of the weights that another lowered, if it asks for them."""
    bits = getattr(source, "weight_bits", 8)
    asks = "weight_bits" in type(engine).model_fields
    return engine.model_copy(update={"weight_bits": bits}) if asks else engine


def stored_of(part: Part, task: Task, machine: Machine) -> Stored:
    """What can be lowered again of a part; an EngineUnavailable where the machine has no torch to
    hold a model."""
    if "torch" not in machine.versions and not has_graph(part.folder):
        raise EngineUnavailable(NEEDS_TORCH)
    return read_stored(part.folder, task)


@contextmanager
def opened(parts: Sequence[Part], made: Made, cores: int) -> Iterator[RowRunner]:
    """The parts as one; what an engine's library raises inside is an EngineUnavailable."""
    try:
        with open_parts(parts, made.stages, cores) as runner:
            yield runner
    except _OF_LIBRARIES as error:
        raise EngineUnavailable(f"{parts[-1].engine.name}: {first_line(error)}") from error


def _kept(source: Path, folder: Path) -> str:
    """The name in `folder` of the files in `source`, which are moved there unless they are."""
    if source.parent == folder:
        return source.name
    name = f"{source.name}-{_content_key(source)}"
    if not (folder / name).exists():  # another process may have been faster
        try:
            os.replace(source, folder / name)
        except OSError:
            if not (folder / name).exists():
                raise
    return name


def _content_key(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:12]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder}: the cache cannot be written ({error.strerror or error}); name another "
            "folder by MIAOTUI_CACHE"
        ) from error
