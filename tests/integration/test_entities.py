"""A tagger goes through every command: a tiny one, whose answers are judged against its own."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import miaotui
import tiny_job
from miaotui.models.load import find_model, load_model
from tiny import TAGS, save_tiny
from tiny_job import miaotui as run

pytestmark = pytest.mark.integration
ROWS = 1500
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "entities.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("entities")
    model = save_tiny("bert", folder / "model", tags=TAGS)
    rows = tiny_job.write_entities(folder / "rows.conll", model, ROWS)
    out = folder / "fast"
    document = tiny_job.optimized(model, rows, out, "--max-drop", "3%", "--time-budget", "60s")
    return model, rows, out, document


def test_the_task_is_found_and_its_quality_kept(
    made: tuple[Path, Path, Path, dict[str, Any]],
) -> None:
    quality = made[3]["quality"]
    assert quality["metric"] == "entity_f1"
    assert quality["original"] > 0.5
    assert quality["within_budget"]
    assert quality["drop"] <= 0.03
    assert json.loads((made[2] / "task.json").read_text())["task"] == "token-classification"


def test_entities_come_with_their_places(made: tuple[Path, Path, Path, dict[str, Any]]) -> None:
    model, _, out, _ = made
    texts = [str(text) for text in tiny_job.texts(60, seed=5)]
    given = [answer.entities for answer in miaotui.load(out)(texts)]
    for text, entities in zip(texts, given, strict=True):
        for entity in entities:
            assert entity.text == text[entity.start : entity.end]
            assert entity.label in ("LOC", "PER")
    original = load_model(find_model(str(model)))
    encoded = original.task.encode(texts)
    outputs = tiny_job.outputs_of(original, encoded)
    expected = [a.entities for a in original.task.answers(texts, encoded, outputs)]
    placed = [
        {(i, e.start, e.end, e.label) for i, found in enumerate(side) for e in found}
        for side in (given, expected)
    ]
    assert len(placed[0] & placed[1]) >= 0.8 * len(placed[1]) > 0


def test_every_command_takes_a_tagger(
    made: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, rows, out, document = made
    lines = run("predict", out, "a quiet film", "--tokens").stdout.splitlines()
    answer = json.loads(lines[0])
    assert [token["text"] for token in answer["tokens"]] == ["a", "quiet", "film"]
    from_file = run("predict", out, "--file", rows).stdout.splitlines()
    assert len(from_file) == ROWS
    assert json.loads(run("show", out, "--json").stdout) == document
    assert "Entity F1" in (out / "card.md").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    run("report", out, "--out", page)
    assert "ntity F1" in page.read_text(encoding="utf-8")
    found = json.loads(run("bench", out, "--data", rows, "--json").stdout)
    assert (found["agreement"], found["metric"]) == (1.0, "entity_f1")


def test_exported_onnx_tags_as_the_bundle_does(
    made: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = made[2]
    run("export", out, "--to", "onnx", "--out", tmp_path / "plain.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"))
    texts = [str(text) for text in tiny_job.texts(20, seed=6)]
    predictor = miaotui.load(out, detailed=True)
    for text, answer in zip(texts, predictor(texts), strict=True):
        rows = predictor.task.encode([text])
        ids = rows.ids.astype(np.int64)[None]
        given = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
        feeds = {entry.name: given[entry.name] for entry in session.get_inputs()}
        logits = session.run(None, feeds)[0][0]
        tags = logits[rows.readouts_or_all().values[:, 0]].argmax(axis=1)
        expected = [token.label for token in answer.tokens]
        same = np.mean([predictor.task.labels[t] == e for t, e in zip(tags, expected, strict=True)])
        assert same >= 0.9, text


def test_the_guides_python_runs(
    made: tuple[Path, Path, Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "fast-ner").symlink_to(made[2])
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(code, GUIDE.name, "exec"), {})  # noqa: S102


def test_fine_tuning_makes_a_tagger(
    made: tuple[Path, Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    model, rows, _, _ = made
    out = tmp_path / "tuned"
    done = run("finetune", model, "--data", rows, "--out", out, "--epochs", 1, "--json")
    assert f"{rows}: 1,500 rows (word, tag) of token-classification; 2 classes: " in done.stderr
    assert set(json.loads(done.stdout)["read"]["classes"]) == {"LOC", "PER"}
    assert load_model(find_model(str(out))).task.name == "token-classification"
