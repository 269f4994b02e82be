"""The result on disk: a folder with a manifest, written whole or not at all, checked on opening."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from miaotui.cascade import Part, open_parts, parts_of
from miaotui.engines import engine_adapter
from miaotui.engines.base import RowRunner
from miaotui.errors import BundleError, ModelError, OutputError, first_line
from miaotui.fallback import placed
from miaotui.golden import Golden, read_golden
from miaotui.hardware import Machine, computes_bf16, probe
from miaotui.host import Made, Placed, read_choice
from miaotui.predictor import Predictor
from miaotui.process import process_as_found
from miaotui.tasks.metrics import AGREEMENT_NAME
from miaotui.tasks.saved import open_task
from miaotui.tasks.task import Task

FORMAT = 3
"""2: the stages of a cascade lie in stages/, before in first/. 3: a cascade names its confidence,
rows their readouts; 2 can still be read."""
_OLDEST = 2
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle, not yet opened."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def golden(self) -> Golden | None:
        return read_golden(self.folder)

    def outside(self, path: Path) -> Path:
        """The path itself; one inside the bundle, which then could not be opened, is refused."""
        if path.resolve().is_relative_to(self.folder.resolve()):
            raise OutputError(
                f"{path} lies inside the bundle, which holds only what was written with it; give "
                "another --out"
            )
        return path

    def made(self, task: Task) -> Made:
        """What it runs as where nothing is missing; strange settings are a BundleError."""
        try:
            engine = engine_adapter.validate_python(self.manifest["engine"])
        except ValidationError as error:
            raise BundleError(f"{self.folder}: {str(error).splitlines()[0]}") from error
        parts, stages = parts_of(engine, self.folder)
        return Made(self.folder, self.manifest["digest"], parts, stages, task, self.golden)

    @property
    def metric(self) -> str | None:
        """What labelled rows are judged by: as the search judged, unless that was by agreement with
        the original's own answers. None is the task's default."""
        name: str | None = self.manifest.get("metric")
        return None if name == AGREEMENT_NAME else name

    def usual_cores(self, machine: Machine) -> int:
        """Those that it runs on where nobody says: what it was tuned for on the machine, else what
        it was made for."""
        tuned = read_choice(self.made(open_task(self.folder)), machine)
        wanted = self.manifest["environment"]["cores"] if tuned is None else tuned.cores
        return min(int(wanted or self.manifest["environment"]["cores"]), machine.cores)

    def differences(self, machine: Machine, parts: Sequence[Part]) -> list[str]:
        """What here is not as where it was measured: another instruction set, or another version of
        the engine of one of the parts."""
        made = self.manifest["environment"]
        differences = []
        if made["instruction_set"] != machine.instruction_set:
            differences.append(
                f"made for {made['instruction_set']}, this machine has {machine.instruction_set}"
            )
        if computes_bf16(made["isa"]) != machine.computes_bf16:
            told = "here it is" if machine.computes_bf16 else "here it is not"
            differences.append(
                f"made where bf16 is {'not ' * machine.computes_bf16}multiplied; {told}"
            )
        packages = [part.engine.package for part in parts]
        named = [name for package in packages for name in (package, f"{package}-gpu")]
        for name in dict.fromkeys([*named, "tokenizers"]):
            then, now = made["versions"].get(name), machine.versions.get(name)
            if then != now:
                differences.append(f"made with {name} {then}, here is {now}")
        return [f"{difference}; run miaotui bench to verify it here" for difference in differences]


def write_bundle(out: Path, fill: Callable[[Path], Mapping[str, Any]]) -> Path:
    """Calls `fill` with an empty folder to write into and gets the manifest's facts from it; then
    puts the folder in place of `out` at once. Whatever fails, an older bundle at `out` stays."""
    check_out(out)
    _sweep(out)
    draft, _ = _beside(out)
    try:
        draft.mkdir(parents=True)
        facts = dict(fill(draft))
        _write_manifest(draft, facts)
        _replace(draft, out)
    except (OSError, SafetensorError) as error:
        reason = _reason(error)
        raise OutputError(
            f"{out} cannot be written: {reason}; what was there is unchanged"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def check_out(out: Path) -> None:
    """Refuses a place that holds something else than a bundle, or that cannot be written."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder for the bundle")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST_FILE).is_file():
        raise OutputError(f"{out} holds something else than a bundle; give another --out")
    parent = next(p for p in out.absolute().parents if p.exists())
    if not os.access(parent, os.W_OK) or not parent.is_dir():
        raise OutputError(f"{out} cannot be written: no permission in {parent}")


def _beside(out: Path) -> tuple[Path, Path]:
    """Where a bundle is written, and where the one before it waits while it takes its place."""
    return out.parent / f".{out.name}.tmp", out.parent / f".{out.name}.old"


def _sweep(out: Path) -> None:
    """Puts right what a killed process left: a half written draft, a bundle moved aside."""
    draft, old = _beside(out)
    shutil.rmtree(draft, ignore_errors=True)
    if old.exists() and not out.exists():
        os.replace(old, out)
    shutil.rmtree(old, ignore_errors=True)


def _reason(error: OSError | SafetensorError) -> str:
    """safetensors says what the system said in words of its own."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full"
    return getattr(error, "strerror", None) or str(error)


def _replace(draft: Path, out: Path) -> None:
    _, old = _beside(out)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(draft, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    files = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"format": FORMAT, **facts, "files": files}
    manifest["digest"] = _digest(manifest)
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as written:
                os.fsync(written.fileno())


def read_bundle(folder: str | Path) -> Bundle:
    """Checks format, manifest and every file's SHA-256; a BundleError says what is wrong."""
    root = Path(folder)
    path = root / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(f"{root} is not a bundle: it has no {MANIFEST_FILE}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is damaged: it is not JSON; write the bundle again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{path} is not a bundle's manifest")
    if manifest["format"] > FORMAT:
        raise BundleError(
            f"{root} has format {manifest['format']}, this miaotui reads up to {FORMAT}; "
            "install a newer miaotui"
        )
    if manifest["format"] < _OLDEST and "first.json" in manifest.get("files", ()):
        raise BundleError(f"{root} is a cascade of an older miaotui; run miaotui optimize again")
    if manifest.get("digest") != _digest(manifest):
        raise BundleError(f"{path} was changed after it was written; write the bundle again")
    if not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{path} lists no files; write the bundle again")
    _check_files(root, manifest["files"])
    _refuse_others(root, {MANIFEST_FILE, *manifest["files"]})
    return Bundle(root, manifest)


def _check_files(root: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        path = root / name
        if not path.is_file():
            raise BundleError(f"{root} lacks {name}; copy the bundle again, whole")
        if _sha256(path) != digest:
            raise BundleError(f"{root}: {name} was changed after it was written (SHA-256 differs)")


def _refuse_others(root: Path, listed: set[str]) -> None:
    """Nothing may lie in a bundle that was not written with it: it might be obeyed."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*links, *names):
            path = Path(folder, name).relative_to(root).as_posix()
            if path not in listed:
                raise BundleError(
                    f"{root} holds {path}, which its manifest does not list; remove it"
                )


class BundlePredictor(Predictor):
    """A bundle's predictor. A copy of it in another process (pickled by Dask, Ray, Spark, a process
    pool) opens the bundle there, by `reopen`: the arguments of `load`. `runs_on` names its
    engines."""

    def __init__(  # noqa: PLR0913  (a predictor's, and where they come from)
        self,
        task: Task,
        session: RowRunner,
        warnings: Sequence[str],
        runs_on: str,
        reopen: tuple[str, int | None, bool],
    ) -> None:
        super().__init__(task, session, warnings)
        self.runs_on = runs_on
        self._reopen = reopen

    def __reduce__(self) -> tuple[Any, ...]:
        return load, self._reopen


def open_bundle(
    bundle: Bundle,
    cores: int | None = None,
    detailed: bool = False,
    machine: Machine | None = None,
) -> BundlePredictor:
    """The predictor of a checked bundle, on at most the cores it was made or tuned for, or those
    given. `detailed` answers leave nothing out. `machine` is what it is to run on, this one as
    probed for None: where that cannot run it as it was made, see `fallback`."""
    machine = machine or probe()
    try:
        task = open_task(bundle.folder)
    except ModelError as error:
        raise BundleError(f"{bundle.folder}: {first_line(error)}") from error
    made = bundle.made(task)
    here = placed(made, machine, machine.cores)
    usable = min(cores or here.cores or bundle.manifest["environment"]["cores"], machine.cores)
    longest = min(longest_row(bundle.manifest), task.max_tokens)
    session = open_parts(here.parts, made.stages, usable).warmed_up(longest)
    shown = task.detailed() if detailed else task
    reopen = (str(bundle.folder.absolute()), cores, detailed)
    warnings = _warnings(bundle, made, here, machine)
    return BundlePredictor(shown, session, warnings, here.title, reopen)


def _warnings(bundle: Bundle, made: Made, here: Placed, machine: Machine) -> list[str]:
    """A bundle that was tuned for the machine was checked and timed there, so nothing is said."""
    if here.is_tuned:
        return []
    kept = [part for part, now in zip(made.parts, here.parts, strict=True) if part == now]
    said = [here.said] if here.said is not None else []
    return [*said, *bundle.differences(machine, kept)]


def longest_row(manifest: Mapping[str, Any]) -> int:
    """Tokens of the longest row that the bundle was made with, of the test rows in older ones."""
    return int(manifest.get("longest_row") or max(map(int, manifest["lengths"]), default=1))


@process_as_found()
def load(folder: str | Path, cores: int | None = None, detailed: bool = False) -> BundlePredictor:
    """Opens the bundle in `folder`; its `warnings` say what differs from where it was measured.
    `detailed` answers leave nothing out: of a tagger every word."""
    return open_bundle(read_bundle(folder), cores, detailed)


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
