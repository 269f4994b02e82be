"""`optimize --dry-run` on a tiny model: what would be tried, and nothing written anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import tiny_job
from miaotui.cli import app
from miaotui.engines import ENGINES
from miaotui.hardware import probe
from miaotui.pipeline.prove import proof_time
from miaotui.rivals import RIVALS
from tiny import TAGS, UNKNOWN, save_tiny

RECIPE = "steps: [{name: int8-static}]\nengine: {name: openvino, streams: 2}\n"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    model = save_tiny("bert", folder / "model")
    return model, tiny_job.write_rows(folder / "rows.csv", model, 2000)


def run(job: tuple[Path, Path], out: Path, *more: str, status: int = 0) -> Result:
    arguments = [str(job[0]), "--data", str(job[1]), "--out", str(out), "--dry-run", *more]
    done = CliRunner().invoke(app, ["optimize", *arguments])
    assert done.exit_code == status, (done.stderr, done.exception)
    return done


def plan(job: tuple[Path, Path], out: Path, *more: str) -> dict[str, Any]:
    return json.loads(run(job, out, "--json", *more).stdout)


def tries(document: dict[str, Any]) -> dict[str, list[str]]:
    return {stage["name"]: stage["tries"] for stage in document["stages"]}


def tree(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in folder.rglob("*")}


def test_the_plan_names_recipes_engines_rows_and_times(
    job: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAOTUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = tree(job[0].parent)

    document = plan(job, tmp_path / "fast")

    assert not list(tmp_path.iterdir()), "nothing may be written"
    assert tree(job[0].parent) == before
    assert document["read"][0]["rows"] == sum(document["rows"].values()) == 2000
    assert document["splits"] == document["rows"]
    machine = probe()
    missing = {name: engine.unavailable(machine) for name, engine in ENGINES.items()}
    told = {name: reason for name, reason in document["engines"].items() if name != "torch-compile"}
    assert told == {name: missing[name] for name in told}
    assert set(document["rivals"]) == {rival.name for rival in RIVALS}
    planned = tries(document)
    assert list(planned) == ["choose", "quantize", "compress", "recover", "cascade"]
    assert {"torch/padded", "int8-static + openvino/packed"} <= set(planned["choose"])
    assert "prune 50%" in planned["compress"]
    assert planned["recover"][0] == "prune 40% + distil"
    time = document["time"]
    assert 0 < time["trial_s"] < time["search_s"] < time["budget_s"] == 600
    assert all(stage["until_s"] <= time["search_s"] for stage in document["stages"])


def test_people_read_it_too(job: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(job, tmp_path / "fast", "--time-budget", "60s", "--engines", "onnxruntime")

    assert "2,000 rows (text, label)" in done.stderr
    assert "not openvino: not asked for" in done.stdout
    assert "too short for a full one" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1].strip() == "Nothing was written."


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--keep-shapes",), "--keep-shapes"),
        (("--max-drop", "0%"), "equal answers only"),
    ],
)
def test_a_stage_that_is_left_out_says_why(
    job: tuple[Path, Path], tmp_path: Path, more: tuple[str, ...], why: str
) -> None:
    stages = {s["name"]: s for s in plan(job, tmp_path / "fast", *more)["stages"]}

    assert why in stages["compress"]["skipped"]
    assert stages["recover"]["tries"] == stages["cascade"]["tries"] == []
    assert stages["choose"]["skipped"] is None


def test_few_rows_and_a_family_without_adapter_are_not_pruned(tmp_path: Path) -> None:
    model = save_tiny("bert", tmp_path / "bert")
    rows = tiny_job.write_rows(tmp_path / "rows.csv", model, 200)
    stages = plan((model, rows), tmp_path / "fast")["stages"]
    assert "36 test rows are too few" in stages[2]["skipped"]

    other = save_tiny(UNKNOWN, tmp_path / "other")
    rows = tiny_job.write_rows(tmp_path / "rows.csv", other, 2000)
    stages = plan((other, rows), tmp_path / "fast")["stages"]
    assert "no adapter" in stages[2]["skipped"]


def test_a_tagger_has_a_plan_too(tmp_path: Path) -> None:
    model = save_tiny("bert", tmp_path / "model", tags=TAGS)
    rows = tiny_job.write_entities(tmp_path / "rows.conll", model, 2000)

    document = plan((model, rows), tmp_path / "fast", "--objective", "latency")

    assert (document["metric"], document["family"]) == ("entity_f1", "bert")
    assert tries(document)["recover"][0] == "layers 1 + distil"


def test_a_recipe_is_all_that_is_tried(job: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")

    planned = tries(plan(job, tmp_path / "fast", "--recipe", str(recipe)))

    assert planned == {"recipe": ["torch/padded", "int8-static + openvino/padded x2"]}


@pytest.mark.parametrize(
    ("more", "says"),
    [(("--engines", "tensorrt"), "engines here"), (("--metric", "beauty"), "accuracy")],
)
def test_what_optimize_refuses_is_refused(
    job: tuple[Path, Path], tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    done = run(job, tmp_path / "fast", *more, status=2)

    assert done.stdout == ""
    assert says in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("budget_s", "rows_per_s", "full"),
    [(60, 400, False), (180, 400, False), (600, 400, True), (600, 20, False), (7200, 20, True)],
)
def test_a_full_proof_takes_time(budget_s: float, rows_per_s: float, full: bool) -> None:
    assert proof_time(budget_s, 1535, rows_per_s).full == full
