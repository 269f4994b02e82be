"""Bundles: written whole or not at all, every byte checked on opening."""

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

import tiny_encoder
from miaotui import cli
from miaotui.bundle import MANIFEST_FILE, Bundle, open_bundle, read_bundle, write_bundle
from miaotui.cascade import ENGINE_FOLDER
from miaotui.engines.base import RowRunner
from miaotui.engines.openvino import OpenVinoEngine
from miaotui.errors import BundleError, OutputError
from miaotui.golden import Golden
from miaotui.hardware import probe
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Outputs, one_a_row
from miaotui.tasks.saved import save_task


def fill(folder: Path) -> Mapping[str, Any]:
    (folder / "engine").mkdir()
    (folder / "engine" / "weights").write_bytes(b"\x00" * 1000)
    (folder / "card.md").write_text("a card", encoding="utf-8")
    return {"task": "text-classification"}


def fill_other(folder: Path) -> Mapping[str, Any]:
    (folder / "card.md").write_text("another card", encoding="utf-8")
    return {"task": "other"}


def disk_fills_up(folder: Path) -> Mapping[str, Any]:
    (folder / "card.md").write_text("half a c", encoding="utf-8")
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "fast", fill)


def test_round_trip(bundle: Path) -> None:
    found = read_bundle(bundle)
    assert found.manifest["task"] == "text-classification"
    assert set(found.manifest["files"]) == {"engine/weights", "card.md"}


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"longest_row": 40}, 40), ({"longest_row": 200}, 64), ({}, 12)],
    ids=["as made", "no longer than the model takes", "of an older miaotui"],
)
def test_a_bundle_is_warm_when_it_is_open(
    known: dict[str, int], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    infer = openvino.InferRequest.infer

    def noted(request: openvino.InferRequest, inputs: dict[str, np.ndarray], **given: bool) -> None:
        lengths.append(inputs["ids"].shape[1])
        infer(request, inputs, **given)

    monkeypatch.setattr(openvino.InferRequest, "infer", noted)
    bundle = made_by(tmp_path, {"lengths": {"3": 9, "12": 1}} | known)

    with open_bundle(bundle):
        assert max(lengths) == expected


def made_by(folder: Path, facts: dict[str, Any]) -> Bundle:
    """A bundle with what its maker knew of rows."""
    model, engine = tiny_encoder.model(1), OpenVinoEngine()

    def filled(draft: Path) -> dict[str, Any]:
        save_task(model.task, draft)
        (draft / ENGINE_FOLDER).mkdir()
        engine.build(model, None, draft / ENGINE_FOLDER)
        environment = asdict(probe()) | {"instruction_set": probe().instruction_set, "cores": 1}
        return {"engine": engine.model_dump(mode="json"), "environment": environment} | facts

    return read_bundle(write_bundle(folder / "fast", filled))


def test_a_second_write_replaces_the_first_whole(bundle: Path) -> None:
    write_bundle(bundle, fill_other)
    assert read_bundle(bundle).manifest["task"] == "other"
    assert not (bundle / "engine").exists()
    assert [p.name for p in bundle.parent.iterdir()] == ["fast"]


@pytest.mark.parametrize("name", ["engine/weights", "card.md"])
def test_a_changed_byte_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle)


def test_every_changed_byte_of_the_manifest_is_refused(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        if not content[at : at + 1].strip():
            continue
        changed = bytearray(content)
        changed[at] ^= 2
        path.write_bytes(bytes(changed))
        with pytest.raises(BundleError):
            read_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "card.md").unlink()
    with pytest.raises(BundleError, match=r"lacks card\.md"):
        read_bundle(bundle)


def test_a_newer_format_says_what_to_do(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"format": 99}), encoding="utf-8")
    with pytest.raises(BundleError, match="install a newer miaotui"):
        read_bundle(bundle)


def test_a_cascade_of_the_older_format_is_not_opened_as_its_last_stage(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    manifest = json.loads(path.read_text(encoding="utf-8"))
    older = manifest | {"format": 1, "files": manifest["files"] | {"first.json": "0"}}
    path.write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(BundleError, match="run miaotui optimize again"):
        read_bundle(bundle)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        read_bundle(tmp_path)


def test_a_full_disk_leaves_the_old_bundle(bundle: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write_bundle(bundle, disk_fills_up)
    assert read_bundle(bundle).manifest["task"] == "text-classification"
    assert [p.name for p in bundle.parent.iterdir()] == ["fast"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="something else"):
        write_bundle(tmp_path, fill)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_file_as_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fast").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="is a file"):
        write_bundle(tmp_path / "fast", fill)


def test_a_real_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")

    def fill_the_disk(folder: Path) -> Mapping[str, Any]:
        with full.open("wb") as opened:
            opened.write(b"x" * 100_000)
        return {}

    old = write_bundle(tmp_path / "fast", fill)
    with pytest.raises(OutputError, match="disk is full"):
        write_bundle(old, fill_the_disk)
    assert read_bundle(old).manifest["task"] == "text-classification"
    shutil.rmtree(old)


def test_what_a_killed_process_left_is_put_right(bundle: Path) -> None:
    """Killed while filling a draft, or between moving the old aside and the new into place."""
    (bundle.parent / ".fast.tmp").mkdir()
    (bundle.parent / ".fast.tmp" / "half").write_text("half", encoding="utf-8")
    bundle.rename(bundle.parent / ".fast.old")
    with pytest.raises(OutputError, match="disk is full"):
        write_bundle(bundle, disk_fills_up)
    assert read_bundle(bundle).manifest["task"] == "text-classification"
    assert [p.name for p in bundle.parent.iterdir()] == ["fast"]


def test_a_full_disk_in_the_words_of_safetensors_is_one_too(bundle: Path) -> None:
    from safetensors import SafetensorError

    def fills_up(folder: Path) -> Mapping[str, Any]:
        raise SafetensorError("Error while serializing: IoError(No space left on device)")

    with pytest.raises(OutputError, match="disk is full"):
        write_bundle(bundle, fills_up)
    assert read_bundle(bundle).manifest["task"] == "text-classification"


class Broken(RowRunner):
    """Answers with what is no number."""

    def run(self, rows: EncodedRows) -> Outputs:
        return one_a_row(np.full((len(rows), 2), np.nan, dtype=np.float32))

    def close(self) -> None:
        """Nothing is open."""


def test_how_near_answers_are_that_are_no_numbers_can_be_told_in_json() -> None:
    rows = tiny_encoder.rows(5)
    golden = Golden(rows, one_a_row(np.zeros((5, 2), dtype=np.float32)))
    near = golden.nearness(tiny_encoder.model(2).task, Broken())
    assert near.divergence == 1.0
    told = json.loads(json.dumps(asdict(near), allow_nan=False))
    assert told["largest_difference"] is None


def test_the_command_prints_no_document_that_is_no_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        cli._print({"largest_difference": float("inf")})
    assert capsys.readouterr().out == ""
