"""Two models side by side: labels matched by name, windows and words alike, quality and speed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny_job
from miaotui.errors import DataError, ModelError
from miaotui.measure.comparison import Comparison, QualityOfTwo, Side, SpeedOfTwo
from miaotui.measure.records import Measurement
from miaotui.measure.speed_result import SpeedResult, ratios
from miaotui.models.load import find_model, load_model
from miaotui.pipeline.compare import CompareOptions, compare
from miaotui.report.pair import pair_document, pair_table, pair_verdict
from miaotui.report.terminal import show
from miaotui.tasks.matching import label_order
from tiny import TAGS, save_tiny

pytestmark = pytest.mark.integration
SECONDS = 1.0


def relabelled(folder: Path, out: Path, names: list[str], order: list[int]) -> Path:
    """The same classifier with its outputs in another order, called `names`."""
    import torch
    import transformers

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    module = getattr(transformers, kind).from_pretrained(folder)
    with torch.no_grad():
        for parameter in module.classifier.parameters():
            parameter.copy_(parameter[order].clone())
    module.config.id2label = dict(enumerate(names))
    module.config.label2id = {name: i for i, name in enumerate(names)}
    module.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((folder / name).read_bytes())
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("a") / "model", labels=3)


@pytest.fixture(scope="module")
def rows(model: Path) -> Path:
    return tiny_job.write_rows(model.parent / "rows.csv", model, 300)


def test_labels_in_another_order_are_matched_by_name(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    names = ["LABEL 2 ", "label 0", "label 1"]
    other = relabelled(model, tmp_path / "other", names, [2, 0, 1])
    told: list[str] = []
    options = CompareOptions(str(model), str(other), rows, seconds=SECONDS)
    found = compare(options, lambda what, share: told.append(what))
    assert found.agreement == 1.0
    assert found.quality is not None
    assert found.quality.drop == 0
    assert 0.6 < found.quality.a < 1
    assert found.quality.interval_95[0] < 0 < found.quality.interval_95[1]
    assert not found.a.is_bundle
    assert "as transformers runs it" in found.a.runs_on
    assert found.speed.a.rounds >= 1
    assert {"opening", "A answers", "B answers", "timing both, in turns"} <= set(told)


def test_the_outputs_of_a_model_are_those_of_transformers(model: Path, rows: Path) -> None:
    from miaotui.engines.torch import TorchEngine
    from tiny import hf_logits

    opened = load_model(find_model(str(model)))
    encoded = opened.task.encode(tiny_job.texts(20))
    with TorchEngine().open_model(opened, 1) as session:
        ours = session.run(encoded).values
    np.testing.assert_allclose(ours, hf_logits(model, encoded, types=True), atol=1e-4)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["label 0", "label 1", "other"], "the labels differ"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "id2label"),
    ],
)
def test_other_labels_are_refused(
    model: Path, rows: Path, tmp_path: Path, names: list[str], says: str
) -> None:
    other = relabelled(model, tmp_path / "other", names, [0, 1, 2])
    with pytest.raises(ModelError, match=says) as raised:
        compare(CompareOptions(str(model), str(other), rows))
    assert "\n" not in str(raised.value)


def test_more_labels_and_other_tasks_are_refused(model: Path, tmp_path: Path) -> None:
    one = load_model(find_model(str(model))).task
    two = load_model(find_model(str(save_tiny("bert", tmp_path / "two", labels=2)))).task
    value = save_tiny("bert", tmp_path / "value", labels=1, problem="regression")
    tagger = save_tiny("bert", tmp_path / "tagger", tags=TAGS)
    with pytest.raises(ModelError, match="the labels differ"):
        label_order(one, two)
    for other in (value, tagger):
        with pytest.raises(ModelError, match="compare two of the same task"):
            label_order(one, load_model(find_model(str(other))).task)


def test_values_match_whatever_they_are_called(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "value", labels=1, problem="regression")
    task = load_model(find_model(str(folder))).task
    assert label_order(task, replace(task, labels=("stars",))) == [0]


def test_a_tagger_beside_one_of_another_order(tmp_path: Path) -> None:
    tagger = save_tiny("bert", tmp_path / "tagger", tags=TAGS)
    rows = tiny_job.write_entities(tmp_path / "rows.conll", tagger, 60)
    other = relabelled(tagger, tmp_path / "other", [TAGS[i] for i in (1, 2, 0)], [1, 2, 0])
    found = compare(CompareOptions(str(tagger), str(other), rows, seconds=SECONDS))
    assert found.agreement == 1.0
    assert found.quality is not None
    assert (found.quality.metric, found.quality.drop) == ("entity_f1", 0)


@pytest.mark.parametrize("name", ["texts.txt", "texts.csv"])
def test_rows_without_labels_give_agreement_alone(model: Path, tmp_path: Path, name: str) -> None:
    lines = [str(text) for text in tiny_job.texts(40)]
    head = ["text"] if name.endswith("csv") else []
    (tmp_path / name).write_text("\n".join([*head, *lines]), encoding="utf-8")
    other = save_tiny("bert", tmp_path / "other", labels=3, seed=5)
    found = compare(CompareOptions(str(model), str(other), tmp_path / name, seconds=SECONDS))
    assert found.quality is None
    assert 0 < found.agreement < 1
    assert any("agreement and speed alone" in note for note in found.notes)
    assert "without labels" in pair_verdict(found)
    assert json.loads(json.dumps(pair_document(found)))["quality"] is None


def test_a_label_column_that_was_named_must_be_there(model: Path, tmp_path: Path) -> None:
    from miaotui.data.columns import Columns

    path = tmp_path / "texts.csv"
    path.write_text("text\nfilm\nstory\n", encoding="utf-8")
    options = CompareOptions(str(model), str(model), path, Columns(label="mood"))
    with pytest.raises(DataError, match="no column 'mood'"):
        compare(options)


def speeds(name: str, rows_per_s: float, rounds: int) -> SpeedResult:
    def measured(what: str, unit: str, values: list[float]) -> Measurement:
        return Measurement(name=what, unit=unit, values=values, conditions={})

    return SpeedResult(
        name=name,
        rows=measured("rows", "rows", [rows_per_s] * rounds),
        seconds=measured("seconds", "s", [1.0 + i / 100 for i in range(rounds)]),
        calls=measured("calls", "calls", [1] * rounds),
        latency_ms=measured("latency", "ms", [2.0] * rounds),
        first_call_ms=1.0,
        warmup_s=1.0,
    )


@pytest.mark.parametrize(
    ("drop", "interval", "rounds", "says"),
    [
        (0.004, (-0.001, 0.009), 10, "B is 2.00× (2.00–2.00) as fast as A and loses 0.40 points "
         "of accuracy (95% interval −0.10 to 0.90); 98.0% of 500 rows are answered alike."),
        (-0.01, (-0.03, 0.01), 3, "B is 2.00× (2.00–2.00, the range of 3 rounds) as fast as A "
         "and gains 1.00 points of accuracy (95% interval −1.00 to 3.00); 98.0%"),
        (0.0, (-0.01, 0.01), 1, "one round) as fast as A and has the same accuracy (95% interval "
         "of the loss −1.00 to 1.00 points)"),
    ],
)  # fmt: skip
def test_the_verdict_is_one_sentence(
    drop: float, interval: tuple[float, float], rounds: int, says: str
) -> None:
    a, b = speeds("A", 100, rounds), speeds("B", 200, rounds)
    found = Comparison(
        a=Side("one", False, "torch"),
        b=Side("two", True, "native"),
        task="text-classification",
        rows=500,
        cores=2,
        agreement=0.98,
        quality=QualityOfTwo("accuracy", 0.9, 0.9 - drop, drop, interval),
        speed=SpeedOfTwo(a, b, ratios(b, a)),
    )
    assert says in pair_verdict(found)
    document = pair_document(found)
    assert document["times_better_b"]["throughput"]["median"] == pytest.approx(2.0)
    assert document["a"]["p99_ms"] is None  # too few calls for one


def test_a_folder_that_looks_like_markup_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = speeds("A", 100, 10), speeds("B", 200, 10)
    found = Comparison(
        a=Side("runs[/old]", False, "torch"),
        b=Side("runs[new]", True, "native"),
        task="text-classification",
        rows=500,
        cores=2,
        agreement=0.98,
        quality=None,
        speed=SpeedOfTwo(a, b, ratios(b, a)),
    )
    show(pair_table(found))
    shown = capsys.readouterr().out
    assert "A: runs[/old], torch" in shown
    assert "B: runs[new], native" in shown
