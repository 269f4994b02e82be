"""Bad input: one clear line, exit status 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import save_tiny

pytestmark = pytest.mark.integration
GOOD = "text,label\n" + "".join(f"a good film {i},{i % 2}\n" for i in range(120))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    save_tiny("bert", folder)
    return folder


def refused(tmp_path: Path, model: object, *more: str, rows: str | bytes = GOOD) -> str:
    data, out = tmp_path / "rows.csv", tmp_path / "out"
    data.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    arguments = ["optimize", str(model), "--data", str(data), "--out", str(out), *more]
    done = subprocess.run(
        [sys.executable, "-m", "miaotui", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith("error: "), done.stderr
    assert not out.exists()
    return lines[-1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("", "empty"),
        ("text,label\n", "no rows"),
        ("text,label\n" + "same class,1\n" * 60, "one class"),
        ("text,label\n" + "a,0\nb,1\n" * 10, "50"),
        ("foo,bar\n" + "a,0\nb,1\n" * 60, "foo"),
        ("text,label\n" + "a,7\nb,8\n" * 60, "7"),
        (b"text,label\n" + "caf\u00e9,0\n".encode("latin-1") * 60, "UTF-8"),
    ],
    ids=["empty", "header-only", "one-class", "few", "columns", "labels", "encoding"],
)
def test_rows(tmp_path: Path, model: Path, rows: str | bytes, says: str) -> None:
    assert says.lower() in refused(tmp_path, model, rows=rows).lower()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-drop", "-1%"], "max_drop"),
        (["--max-drop", "little"], "not a number"),
        (["--time-budget", "5s"], "60s"),
        (["--engines", "tensorrt"], "engines here"),
        (["--metric", "beauty"], "accuracy"),
    ],
    ids=["negative", "word", "short", "engine", "metric"],
)
def test_options(tmp_path: Path, model: Path, arguments: list[str], says: str) -> None:
    assert says in refused(tmp_path, model, *arguments)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("steps: [{name: magic}]\nengine: {name: torch}\n", "prune-structure"),
        ("steps: [{name: low-rank, rnk: 3}]\nengine: {name: torch}\n", "rnk"),
        ("colour: red\nengine: {name: torch}\n", "steps, engine"),
    ],
)
def test_recipes(tmp_path: Path, model: Path, recipe: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    assert says in refused(tmp_path, model, "--recipe", str(path))


def test_missing_model(tmp_path: Path) -> None:
    assert "not a folder" in refused(tmp_path, tmp_path / "nowhere")


def test_pickled_weights(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "save_pretrained" in refused(tmp_path, folder)
