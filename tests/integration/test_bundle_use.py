"""What can be done with a bundle on the command line: a cascade made by a recipe, no search."""

import json
import logging
import os
import re
import shutil
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import openvino
import psutil
import pytest
from typer.testing import CliRunner, Result

import miaotui
import tiny_job
from miaotui.budget import Budget
from miaotui.bundle import BundlePredictor
from miaotui.cli import app
from miaotui.hardware import probe, usable_cores
from miaotui.pipeline import OptimizeOptions, RowsOptions
from tiny import save_tiny

pytestmark = pytest.mark.integration
needs_two_cores = pytest.mark.skipif(usable_cores() < 2, reason="two workers need two cores")
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "docs" / "guides" / "predict.md"]
RECIPE = """
steps:
  - {name: prune-structure, keep_time: 0.7, keep_blocks: false}
  - {name: int8-static, calibrator: minmax}
engine: {name: onnxruntime, weight_bits: 8, layout: {kind: packed, batch: 4, block_tokens: 32}}
stages:
  - answers: 0.4
    steps: [{name: drop-layers, keep: [0]}]
    engine: {name: openvino, layout: {kind: bucketed, batch: 8, edges: [16, 32]}}
"""


def run(*arguments: object, status: int = 0) -> Result:
    """In this process, which is much faster."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, (done.stderr[-2000:], done.exception)
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """The bundle, the rows and the document."""
    folder = tmp_path_factory.mktemp("use")
    model = save_tiny("bert", folder / "model")
    rows = tiny_job.write_rows(folder / "rows.csv", model, 1200)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    arguments = ("--recipe", recipe, "--max-drop", "50%", "--time-budget", "60s")
    document = tiny_job.optimized(model, rows, folder / "fast", *arguments)
    return folder / "fast", rows, document


def test_a_recipe_is_done_to_the_letter(made: tuple[Path, Path, dict]) -> None:
    bundle, _, document = made
    assert document["recipe"]["stages"][0]["answers"] == 0.4
    assert document["recipe"]["steps"][0]["keep_time"] == 0.7
    assert any("its first stage answers" in note for note in document["notes"])
    stages = json.loads((bundle / "stages.json").read_text(encoding="utf-8"))
    assert stages["test_rows"] == document["quality"]["rows"]
    assert 0.2 < stages["stages"][0]["answered"] < 0.6
    assert document["details"]["latency_table_error"] is not None
    assert (bundle / "stages" / "0" / "model.onnx").is_file()
    steps = [step["step"] for step in document["details"]["speedup_steps"]]
    assert steps[0] == "original"
    assert steps[-1] == "cascade"


def test_no_text_waits_for_a_network_once_the_bundle_is_open(
    made: tuple[Path, Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = json.loads((made[0] / "manifest.json").read_text(encoding="utf-8"))["longest_row"]
    predictor = miaotui.load(made[0])

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("compiled while it served")

    monkeypatch.setattr(openvino.Core, "compile_model", refuse)
    lengths = set()
    for words in range(1, longest - 1):
        text = " ".join(["a"] * words)
        lengths.update(predictor.task.encode([text]).lengths.tolist())
        assert predictor([text])[0].label
    assert lengths == set(range(3, longest + 1))


def test_bench_compares_like_with_like(made: tuple[Path, Path, dict]) -> None:
    bundle, rows, _ = made
    found = json.loads(run("bench", bundle, "--data", rows, "--json").stdout)
    assert found["agreement"] == 1.0
    assert found["warnings"] == []
    assert set(found["measured"]) == set(found["card"])
    assert found["metric"] == "accuracy"
    assert 0.4 < found["quality"] <= 1


def test_every_verb_says_what_it_read(made: tuple[Path, Path, dict], tmp_path: Path) -> None:
    bundle, rows, document = made
    (read,) = document["details"]["read"]
    assert (read["rows"], read["columns"], read["dropped"]) == (1200, ["text", "label"], 0)
    assert sum(read["classes"].values()) == 1200
    path = tmp_path / "rows.csv"
    path.write_bytes(rows.read_text(encoding="utf-8").replace(",", ";").encode("utf-16"))

    done = run("bench", bundle, "--data", path, "--json")
    assert json.loads(done.stdout)["read"] == read | {
        "source": str(path),
        "notes": [f"{path} is read as UTF-16", f"{path} is read with a semicolon between cells"],
    }
    line, *notes = done.stderr.splitlines()
    assert line.startswith(f"{path}: 1,200 rows (text, label) of text-classification; 2 classes: ")
    assert [note.split()[-1] for note in notes] == ["UTF-16", "cells"]

    done = run("predict", bundle, "--file", path)
    line, *notes = done.stderr.splitlines()
    assert line.startswith(f"{path}: 1,200 rows (text) of text-classification; ")
    assert [note.split()[-1] for note in notes] == ["UTF-16", "cells"]
    assert len(done.stdout.splitlines()) == 1200


def test_long_and_empty_texts_are_answered_and_counted(made: tuple[Path, Path, dict]) -> None:
    bundle, _, _ = made
    done = run("predict", bundle, "film " * 20_000, "", "a quiet film")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["truncated"] for a in answers] == [True, False, False]
    assert all(np.isfinite(list(a["scores"].values())).all() for a in answers)
    assert "1 of 3 texts were longer" in done.stderr


def test_a_predictor_answers_alike_alone_and_together(made: tuple[Path, Path, dict]) -> None:
    predictor = miaotui.load(made[0])
    texts = tiny_job.texts(40, seed=4)
    together = predictor(texts)
    alone = [predictor([text])[0] for text in texts]
    assert [a.label for a in alone] == [a.label for a in together]
    np.testing.assert_allclose([a.score for a in alone], [a.score for a in together], atol=1e-3)


@needs_two_cores
def test_workers_answer_as_one_process_does(made: tuple[Path, Path, dict]) -> None:
    texts = tiny_job.texts(100, seed=4)
    expected = miaotui.load(made[0], cores=1)(texts)
    with miaotui.Workers(made[0], 2, cores=2) as workers:
        assert [a.label for a in workers(texts)] == [a.label for a in expected]
        found = list(workers.stream(iter(texts), rows=7))
    np.testing.assert_allclose([a.score for a in found], [a.score for a in expected], atol=1e-5)


@needs_two_cores
def test_a_worker_that_dies_is_replaced_and_no_text_is_lost(made: tuple[Path, Path, dict]) -> None:
    texts = tiny_job.texts(300, seed=5)
    expected = [a.label for a in miaotui.load(made[0], cores=1)(texts)]
    with miaotui.Workers(made[0], 2, cores=2) as workers:
        before = workers.process_ids
        found = []
        for i, answer in enumerate(workers.stream(texts, rows=10)):
            found.append(answer.label)
            if i in (30, 150):
                os.kill(workers.process_ids[i == 150], signal.SIGKILL)
        assert found == expected
        assert not set(before) & set(workers.process_ids)
    assert not any(psutil.pid_exists(pid) for pid in before)


@needs_two_cores
def test_workers_on_the_command_line(made: tuple[Path, Path, dict]) -> None:
    bundle, rows, _ = made
    done = run("predict", bundle, "--file", rows, "--workers", 2)
    alone = run("predict", bundle, "--file", rows, "--cores", 1)
    labels = [[json.loads(line)["label"] for line in d.stdout.splitlines()] for d in (done, alone)]
    assert labels[0] == labels[1]
    assert "choose from 1 to" in run("predict", bundle, "x", "--workers", 999, status=2).stderr


def test_a_pickled_predictor_opens_its_bundle_again(made: tuple[Path, Path, dict]) -> None:
    texts = tiny_job.texts(30, seed=6)
    predictor = miaotui.load(made[0], cores=1)
    expected = [answer.label for answer in predictor(texts)]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(_labels, predictor, texts).result()
    assert found == expected


def _labels(predictor: BundlePredictor, texts: list[str]) -> list[str]:
    return [answer.label for answer in predictor(texts)]


def test_the_callers_process_is_left_as_it_was(
    made: tuple[Path, Path, dict], tmp_path: Path
) -> None:
    model, rows = made[0].parent / "model", made[1]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("engine: {name: onnxruntime}\n", encoding="utf-8")

    def state() -> tuple[object, ...]:
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        return own, dict(os.environ), list(warnings.filters), logging.getLogger().level

    before = state()
    options = OptimizeOptions(
        str(model),
        RowsOptions(rows),
        tmp_path / "out",
        Budget(time_budget_s=60),
        recipe=recipe,
        cores=1,
    )
    assert miaotui.optimize(options).quality.drop == 0
    miaotui.load(tmp_path / "out")(["a quiet film"])
    assert state() == before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_documented_python_runs(
    made: tuple[Path, Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    (tmp_path / "fast").symlink_to(made[0])
    (tmp_path / "texts.txt").write_text("a quiet film\na dull story\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert code
    for block in code:
        exec(compile(block, page.name, "exec"), {"__name__": "__main__"})  # noqa: S102


def test_show_report_and_export(made: tuple[Path, Path, dict], tmp_path: Path) -> None:
    bundle, _, document = made
    assert "a cascade" in run("show", bundle).stdout
    assert json.loads(run("show", bundle, "--json").stdout) == document
    page = tmp_path / "page.html"
    assert run("report", bundle, "--out", page).stdout.strip() == str(page)
    assert "cascade" in page.read_text(encoding="utf-8")
    for verb in (("report", bundle), ("export", bundle, "--to", "onnx")):
        inside = run(*verb, "--out", bundle / "more", status=2).stderr
        assert "lies inside the bundle" in inside
    assert not (bundle / "more").exists()
    done = run("export", bundle, "--to", "onnx", "--out", tmp_path / "plain.onnx")
    assert "last stage of the cascade" in done.stderr
    assert (
        "formats: onnx"
        in run("export", bundle, "--to", "gguf", "--out", tmp_path / "x", status=2).stderr
    )


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda b: (b / "task.json").write_text("{}"), "task.json was changed"),
        (lambda b: (b / "stages.json").unlink(), "lacks stages.json"),
        (lambda b: (b / "manifest.json").write_text('{"format": 9}'), "newer miaotui"),
        (lambda b: (b / "manifest.json").unlink(), "no manifest.json"),
        (lambda b: (b / "engine" / "stages.json").write_text("{}"), "holds engine/stages.json"),
        (lambda b: (b / "more").symlink_to(b.parent), "holds more, which its manifest"),
    ],
    ids=["changed", "missing", "newer", "no-manifest", "stray", "link"],
)
def test_a_damaged_bundle_is_one_line(
    made: tuple[Path, Path, dict], tmp_path: Path, harm: object, says: str
) -> None:
    bundle = tmp_path / "copy"
    shutil.copytree(made[0], bundle)
    harm(bundle)  # type: ignore[operator]
    for verb in (("predict", bundle, "a film"), ("show", bundle), ("bench", bundle)):
        (line,) = run(*verb, status=2).stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert says in line


def test_another_machine_is_reported(made: tuple[Path, Path, dict], tmp_path: Path) -> None:
    """A bundle whose manifest names other versions and another instruction set still opens."""
    from miaotui.bundle import Bundle, open_bundle, read_bundle

    found = read_bundle(made[0])
    environment = found.manifest["environment"]
    other = environment | {
        "instruction_set": "neon",
        "isa": ["avx2"] if probe().computes_bf16 else ["avx512_bf16"],
        "versions": environment["versions"] | {"onnxruntime": "1.0"},
    }
    predictor = open_bundle(Bundle(found.folder, {**found.manifest, "environment": other}))
    assert len(predictor.warnings) == 3
    assert any("bf16" in warning for warning in predictor.warnings)
    assert any("made for neon" in warning for warning in predictor.warnings)
    assert all("run miaotui bench" in warning for warning in predictor.warnings)
    assert predictor(["a quiet film"])[0].label


def elsewhere(bundle: Path, copy: Path) -> Path:
    """The bundle as if another machine had made it: its last engine is one that needs a GPU."""
    from miaotui.bundle import write_bundle

    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    engine = {"name": "tensorrt", "layout": manifest["engine"]["layout"]}

    def fill(draft: Path) -> dict:
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(bundle, draft, dirs_exist_ok=True, ignore=ignored)
        written = ("format", "files", "digest")
        return {k: v for k, v in manifest.items() if k not in written} | {"engine": engine}

    return write_bundle(copy, fill)


@pytest.mark.skipif(bool(probe().gpus), reason="there is a GPU, which TensorRT might use")
def test_a_bundle_of_another_machine_is_answered_and_retuned(
    made: tuple[Path, Path, dict], tmp_path: Path
) -> None:
    bundle = elsewhere(made[0], tmp_path / "fast")
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    texts = [str(text) for text in tiny_job.texts(20, seed=8)]
    expected = [answer.label for answer in miaotui.load(made[0])(texts)]
    done = run("predict", bundle, *texts)
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert "stands in for" in warning
    assert "tensorrt needs an NVIDIA GPU" in warning
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == expected

    found = json.loads(run("bench", bundle, "--retune", "--json").stdout)
    assert found["warnings"] == []
    assert found["agreement"] >= 0.98
    assert found["retuned"]["chosen"] in found["retuned"]["speeds"]
    assert found["retuned"]["times_faster"] is None or found["retuned"]["times_faster"]["low"] > 1
    again = run("predict", bundle, *texts)
    assert "warning" not in again.stderr
    labels = [json.loads(line)["label"] for line in again.stdout.splitlines()]
    assert np.mean([a == b for a, b in zip(labels, expected, strict=True)]) >= 0.9
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_cores_are_for_retuning(made: tuple[Path, Path, dict]) -> None:
    assert "give it with --retune" in run("bench", made[0], "--cores", 1, status=2).stderr


def test_a_bundle_beside_its_model(made: tuple[Path, Path, dict], tmp_path: Path) -> None:
    bundle, rows, document = made
    model = bundle.parent / "model"
    done = run("compare", model, bundle, "--data", rows, "--time-budget", "5s", "--json")
    found = json.loads(done.stdout)
    assert found["a"]["is_bundle"] is False
    assert "as transformers runs it" in found["a"]["runs_on"]
    assert found["b"]["runs_on"].startswith("openvino")
    assert found["quality"]["metric"] == "accuracy"
    low, high = found["quality"]["interval_95"]
    assert low <= found["quality"]["drop"] <= high
    assert found["rows"] == 1200
    assert found["verdict"].startswith("B is ")
    assert "timing both" in done.stderr
    shown = run("compare", bundle, bundle, "--data", rows, "--time-budget", "2s").stdout
    assert "100.0% of 1,200 rows" in " ".join(shown.split())
    other = save_tiny("bert", tmp_path / "other", labels=3)
    (line,) = run("compare", bundle, other, "--data", rows, status=2).stderr.splitlines()[-1:]
    assert line.startswith("error: the labels differ")
