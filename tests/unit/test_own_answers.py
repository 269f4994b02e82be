"""`--max-change`: rows without labels, judged by how many of the original's answers change."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tiny_job
from miaotui.budget import Budget, parse_limit
from miaotui.cli import app
from miaotui.data.columns import Columns
from miaotui.data.saved_splits import load_splits
from miaotui.errors import BudgetError, DataError
from miaotui.measure.judge import judge_for
from miaotui.models.load import find_model, load_model
from miaotui.pipeline.inputs import Inputs, read_inputs
from miaotui.pipeline.options import OptimizeOptions, RowsOptions
from miaotui.pipeline.own_answers import COUNTS_FILE
from miaotui.pipeline.prepare import prepare
from miaotui.tasks.outputs import Outputs
from tiny import TAGS, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("tiny") / "model")


def plain(folder: Path, count: int = 400) -> Path:
    path = folder / "texts.txt"
    path.write_text("\n".join(map(str, tiny_job.texts(count))), encoding="utf-8")
    return path


def options(model: Path, rows: Path, folder: Path, **more: object) -> OptimizeOptions:
    asked = {"budget": Budget(time_budget_s=60), "by_agreement": True, **more}
    return OptimizeOptions(str(model), RowsOptions(rows), folder / "fast", **asked)


def whole(inputs: Inputs) -> dict[object, object]:
    splits = inputs.splits
    parts = (splits.train, splits.validation, splits.selection, splits.test)
    return {
        text: label for part in parts for text, label in zip(part.texts, part.labels, strict=True)
    }


def test_the_original_agrees_with_itself_and_another_loses_what_it_changes(
    model: Path, tmp_path: Path
) -> None:
    job = prepare(options(model, plain(tmp_path), tmp_path))
    judge, test = job.context.judge, job.test()
    assert judge.metric == "agreement"
    assert judge.original_quality(test) == 1.0
    changed = np.array(test.original.values, copy=True)
    changed[:7] = changed[:7, ::-1]
    report = judge.compare(Outputs(changed, test.original.starts), test)
    assert report.drop == pytest.approx(7 / len(test))
    assert report.agreement == pytest.approx(1 - 7 / len(test))
    assert any("no label was looked at" in note for note in job.notes)


def test_labels_that_are_there_are_not_looked_at(model: Path, tmp_path: Path) -> None:
    rows = tiny_job.write_rows(tmp_path / "rows.csv", model, 300)
    scrambled = tmp_path / "scrambled.csv"
    lines = rows.read_text(encoding="utf-8").splitlines()
    scrambled.write_text(
        "\n".join([lines[0], *(f"{line.rsplit(',', 1)[0]},nonsense" for line in lines[1:])]),
        encoding="utf-8",
    )
    right = whole(read_inputs(options(model, rows, tmp_path)))
    assert whole(read_inputs(options(model, scrambled, tmp_path))) == right


def test_a_run_that_goes_on_has_as_many_rows_of_each_file_as_before(
    model: Path, tmp_path: Path
) -> None:
    """The rest of the texts may be distilled on; a fresh run counts anew."""
    test = tmp_path / "test.txt"
    test.write_text("\n".join(map(str, tiny_job.texts(900, seed=9))), encoding="utf-8")
    asked = options(model, plain(tmp_path), tmp_path)
    asked = replace(asked, rows=replace(asked.rows, test=test))
    first = read_inputs(asked)
    assert first.answered_rows is not None
    counts = dict.fromkeys(first.answered_rows, 250)
    asked.work.mkdir()
    (asked.work / COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")
    again = read_inputs(asked)
    assert again.answered_rows == counts
    assert len(counts) == 2
    assert len(again.splits.test) == len(whole(again)) - len(again.splits.test) == 250
    assert again.unlabelled is not None
    assert len(again.unlabelled) == 150 + 650
    assert not set(again.unlabelled.texts) & set(whole(again))
    fresh = read_inputs(replace(asked, fresh=True))
    assert len(fresh.splits.test) >= 512


def test_a_dry_run_answers_a_sample_and_tells_the_same_sizes(model: Path, tmp_path: Path) -> None:
    asked = options(model, plain(tmp_path), tmp_path)
    sizes = [
        [len(part) for part in (inputs.splits.train, inputs.splits.selection, inputs.splits.test)]
        for inputs in (read_inputs(asked), read_inputs(asked, sample=60))
    ]
    assert sizes[0] == sizes[1]


def test_a_trial_is_not_believed_better_than_the_answers_it_changes(
    model: Path, tmp_path: Path
) -> None:
    """What changes is what is lost here, not a share of it."""
    job = prepare(options(model, plain(tmp_path), tmp_path))
    assert not job.context.judge.follows_changes
    assert judge_for(job.context.model.task).follows_changes


def test_with_enough_other_texts_more_rows_are_for_the_test(model: Path, tmp_path: Path) -> None:
    rows = tiny_job.write_rows(tmp_path / "rows.csv", model, 400)
    asked = replace(options(model, rows, tmp_path), by_agreement=False)
    others = tmp_path / "others.txt"
    others.write_text("\n".join(map(str, tiny_job.texts(450, seed=5))), encoding="utf-8")
    with_others = replace(asked, rows=replace(asked.rows, unlabelled=others))
    assert len(read_inputs(asked).splits.test) == 72
    assert len(read_inputs(with_others).splits.test) == 120


@pytest.mark.parametrize(
    "tags",
    [TAGS, ("O", "B-PER", "I-PER"), ("O", "B-PER", "I-PER", "L-PER", "U-PER"), ("O", "PER", "LOC")],
    ids=["IO", "BIO", "BILOU", "bare"],
)
def test_a_tagger_changes_a_text_when_its_entities_change(
    tags: tuple[str, ...], tmp_path: Path
) -> None:
    """A random tagger spells many entities wrongly: what nobody reads is no answer."""
    tagger = save_tiny("bert", tmp_path / "tagger", tags=tags, seed=int("U-PER" in tags))
    job = prepare(options(tagger, plain(tmp_path), tmp_path))
    judge, test = job.context.judge, job.test()
    assert judge.original_quality(test) == 1.0
    task = job.context.model.task
    entities = task.answers(test.texts, test.rows, test.original)
    some = next(i for i, answer in enumerate(entities) if answer.entities)
    first, last = test.original.starts[some], test.original.starts[some + 1]
    changed = np.array(test.original.values, copy=True)
    changed[first:last] = np.eye(len(tags), dtype=np.float32)[0]
    assert judge.compare(Outputs(changed, test.original.starts), test).drop == 1 / len(test)


def test_what_may_be_lost_is_said_in_one_way(model: Path, tmp_path: Path) -> None:
    rows = plain(tmp_path)
    given = ["optimize", str(model), "--data", str(rows), "--out", str(tmp_path / "fast")]
    both = CliRunner().invoke(app, [*given, "--max-drop", "1%", "--max-change", "1%"])
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
    none = CliRunner().invoke(app, given)
    assert none.exit_code == 2
    assert "--max-change" in none.stderr
    with pytest.raises(BudgetError, match="by agreement alone"):
        options(model, rows, tmp_path, metric="macro_f1")
    with pytest.raises(BudgetError, match="looks at no label"):
        OptimizeOptions(
            str(model), RowsOptions(rows, columns=Columns(label="x")), tmp_path, by_agreement=True
        )
    labelled = tiny_job.write_rows(tmp_path / "rows.csv", model, 100)
    with pytest.raises(BudgetError, match="judged by --max-change"):
        read_inputs(options(model, labelled, tmp_path, by_agreement=False, metric="agreement"))
    with pytest.raises(BudgetError, match=r"max-change is 1\.5"):
        parse_limit(None, "150%")


def test_one_answer_to_everything_is_refused(model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "same.txt"
    rows.write_text("\n".join(["good film"] * 80), encoding="utf-8")
    with pytest.raises(DataError, match="only one class"):
        read_inputs(options(model, rows, tmp_path))
    assert load_splits(model) is None
    assert load_model(find_model(str(model))).task.labels
