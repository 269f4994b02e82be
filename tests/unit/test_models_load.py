"""What can be wrong with a model folder, said in one line; nothing of the model's own is run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from miaotui.engines.layouts import Padded
from miaotui.engines.onnxruntime import OnnxRuntimeEngine
from miaotui.errors import ModelError
from miaotui.models.load import find_model, load_config, load_model, save_model
from miaotui.models.model import Calibration, Model
from miaotui.models.precision import Kind
from miaotui.models.tokenizer import longest_row
from miaotui.tasks.outputs import one_a_row
from miaotui.tasks.problems import Problem
from miaotui.techniques.int8_dynamic import Int8Dynamic
from miaotui.techniques.int8_static import Int8Static
from tiny import MAX_TOKENS, UNKNOWN, random_rows, save_tiny, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("bert"), labels=3)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A folder of this test's own, to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def load(folder: Path) -> Model:
    return load_model(find_model(str(folder)))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/model", "a/b/c"])
def test_a_missing_folder_is_said_to_be_none(name: str) -> None:
    with pytest.raises(ModelError, match="is not a folder; give a model folder or a hub id"):
        find_model(name)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")

    with pytest.raises(ModelError, match="is not a folder"):
        find_model(str(tmp_path / "model.bin"))


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_hub_id_offline_is_one_clear_line(name: str) -> None:
    with pytest.raises(ModelError) as error:
        find_model(name)

    assert "hub cannot be reached or is switched off (HF_HUB_OFFLINE)" in one_line(error)


@pytest.mark.parametrize("name", ["bad id!", ""])
def test_a_name_that_is_no_hub_id_is_one_clear_line(name: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(find_model(name))

    one_line(error)


def test_a_folder_without_config_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config.json; save the model with save_pretrain"):
        find_model(str(tmp_path))


def test_a_folder_without_weights_says_what_was_expected(folder: Path) -> None:
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelError, match=r"has no weights; expected model.safetensors"):
        find_model(str(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_how_to_convert(name: str, folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelError, match=f"only pickled weights .{name}.*save_pretrained"):
        find_model(str(folder))


def test_a_body_without_a_trained_head_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    body = {k: v for k, v in load_file(path).items() if not k.startswith("classifier")}
    save_file(body, path, metadata={"format": "pt"})

    with pytest.raises(ModelError, match="no trained head for .*classifier.bias"):
        load(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config.update(hidden_size=64))

    with pytest.raises(ModelError) as error:
        load(folder)

    one_line(error)


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not tensors at all")

    with pytest.raises(ModelError) as error:
        load(folder)

    one_line(error)


@pytest.mark.parametrize("model_type", ["bert", "a-type-of-its-own"])
def test_code_of_the_models_own_is_never_run(model_type: str, folder: Path) -> None:
    ran = folder / "ran"
    code = f"open({str(ran)!r}, 'w')\nclass C: pass\n"
    (folder / "modeling_own.py").write_text(code, encoding="utf-8")
    own = {
        "AutoConfig": "modeling_own.C",
        "AutoModelForSequenceClassification": "modeling_own.C",
        "AutoTokenizer": ["modeling_own.C", "modeling_own.C"],
    }
    edit(folder / "config.json", lambda c: c.update(auto_map=own, model_type=model_type))

    if model_type == "bert":
        assert load(folder).family == "bert"
    else:
        with pytest.raises(ModelError) as error:
            load(folder)
        one_line(error)
    assert not ran.exists()


@pytest.mark.parametrize("content", ["", "not json", "[]", "3", "null", "{}", '{"model_type": 3}'])
def test_a_config_that_is_not_a_models_is_refused(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content, encoding="utf-8")

    with pytest.raises(ModelError) as error:
        load(folder)

    assert "config.json" in one_line(error)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "not json", "[]"])
def test_a_strange_tokenizer_is_refused(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content, encoding="utf-8")

    with pytest.raises(ModelError) as error:
        load(folder)

    assert name in one_line(error)


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()

    with pytest.raises(ModelError, match="tokenizer"):
        load(folder)


def test_a_model_of_ours_saved_in_part_is_refused(folder: Path, tmp_path: Path) -> None:
    save_model(load(folder), tmp_path / "ours")
    (tmp_path / "ours" / "task.json").unlink()

    with pytest.raises(ModelError, match=r"no task.json; it was not saved whole"):
        load(tmp_path / "ours")


@pytest.mark.parametrize("damage", [None, b"damaged"])
def test_a_model_of_ours_with_bad_weights_is_refused(
    damage: bytes | None, folder: Path, tmp_path: Path
) -> None:
    save_model(load(folder), tmp_path / "ours")
    weights = tmp_path / "ours" / "model.safetensors"
    weights.unlink()
    if damage is not None:
        weights.write_bytes(damage)

    with pytest.raises(ModelError, match=r"model.safetensors"):
        load(tmp_path / "ours")


def test_labels_and_problem_are_those_of_the_config(folder: Path) -> None:
    task = load(folder).task

    assert task.labels == ("label 0", "label 1", "label 2")
    assert task.problem is Problem.SINGLE_LABEL


@pytest.mark.parametrize(
    ("labels", "stated", "problem"),
    [
        (2, "multi_label_classification", Problem.MULTI_LABEL),
        (1, "regression", Problem.REGRESSION),
        (1, None, Problem.REGRESSION),
        (2, None, Problem.SINGLE_LABEL),
    ],
)
def test_the_problem_is_stated_or_told_by_the_labels(
    labels: int, stated: str | None, problem: Problem, tmp_path: Path
) -> None:
    model = tiny_model("distilbert", tmp_path, labels=labels, problem=stated)

    assert model.task.problem is problem


@pytest.mark.parametrize(
    ("stated", "longest"), [(40, 40), (512, MAX_TOKENS + 2), (1e30, MAX_TOKENS + 2), (None, 98)]
)
def test_the_longest_row_is_the_smallest_limit(
    stated: float | None, longest: int, folder: Path
) -> None:
    edit(folder / "tokenizer_config.json", lambda c: c.update(model_max_length=stated))
    source = find_model(str(folder))

    assert longest_row(source.folder, load_config(source)) == longest


def test_the_longest_row_without_settings_is_the_positions(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    source = find_model(str(folder))

    assert longest_row(source.folder, load_config(source)) == MAX_TOKENS + 2


@pytest.mark.parametrize(("family", "longest"), [(UNKNOWN, 4096), ("t5", 512)])
def test_the_longest_row_of_an_unknown_family_is_its_positions_if_any(
    family: str, longest: int, tmp_path: Path
) -> None:
    positions = {} if family == "t5" else {"max_position_embeddings": 4096}
    save_tiny(family, tmp_path, **positions)
    (tmp_path / "tokenizer_config.json").unlink()
    source = find_model(str(tmp_path))

    assert longest_row(source.folder, load_config(source)) == longest


def test_a_chinese_model_loads(tmp_path: Path) -> None:
    model = tiny_model("bert", tmp_path, chinese=True)

    assert model.task.encode(["这部电影"]).lengths.tolist() == [6]


@pytest.mark.parametrize("family", ["bert", UNKNOWN])
def test_a_saved_int8_model_opens_as_itself(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, tmp_path / "model")
    rows = random_rows([5, 9, 12, 7])
    calibration = Calibration(rows, one_a_row(np.array([0, 1, 0, 1])))
    step = Int8Dynamic() if family == UNKNOWN else Int8Static(calibrator="minmax")
    quantized = step.prepare(model, calibration)
    assert quantized.precision.kinds & {Kind.INT8_STATIC, Kind.INT8_DYNAMIC}
    save_model(quantized, tmp_path / "saved")

    opened = load(tmp_path / "saved")

    assert opened.precision == quantized.precision
    answers = []
    for i, each in enumerate((quantized, opened)):
        engine = OnnxRuntimeEngine(layout=Padded(batch=2))
        engine.build(each, calibration, tmp_path / str(i))
        with engine.open(tmp_path / str(i), 1) as session:
            answers.append(session.run(rows).values)
    np.testing.assert_array_equal(*answers)
