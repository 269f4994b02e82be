"""Bad input: one clear line, exit status 2, nothing written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny_job
from miaotui.cli import app
from tiny import UNKNOWN, save_tiny

pytestmark = pytest.mark.integration
GOOD = "text,label\n" + "".join(f"a good film {i},{i % 2}\n" for i in range(120))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    save_tiny("bert", folder)
    return folder


def refused(tmp_path: Path, model: object, *more: str, rows: str | bytes = GOOD) -> str:
    """The one line that `optimize` ends with; nothing is written."""
    data, out = tmp_path / "rows.csv", tmp_path / "out"
    data.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    line = last_line(model, data, out, *more)
    assert not out.exists()
    assert not list(tmp_path.glob(".*")), "nothing of the work is left either"
    return line


def last_line(model: object, data: Path, out: Path, *more: str) -> str:
    """Of `optimize` that ends with status 2; in this process, which is much faster."""
    arguments = ["optimize", str(model), "--data", str(data), "--out", str(out), *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, (done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: "), done.stderr
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
        (["--max-memory", "1MB"], "50MB"),
        (["--max-memory", "plenty"], "not a size"),
    ],
    ids=["negative", "word", "short", "engine", "metric", "memory", "size"],
)
def test_options(tmp_path: Path, model: Path, arguments: list[str], says: str) -> None:
    assert says in refused(tmp_path, model, *arguments)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("steps: [{name: magic}]\nengine: {name: torch}\n", "prune-structure"),
        ("steps: [{name: low-rank, rnk: 3}]\nengine: {name: torch}\n", "rnk"),
        ("engine: {name: openvino, device: GPU.9}\n", "sees no device GPU.9"),
        ("engine: {name: openvino, device: TPU}\n", "device"),
        ("colour: red\nengine: {name: torch}\n", "steps, engine"),
    ],
)
def test_recipes(tmp_path: Path, model: Path, recipe: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    assert says in refused(tmp_path, model, "--recipe", str(path))


def test_missing_model(tmp_path: Path) -> None:
    """In a process of its own: no traceback, status 2."""
    (tmp_path / "rows.csv").write_text(GOOD, encoding="utf-8")
    arguments = (tmp_path / "nowhere", "--data", tmp_path / "rows.csv", "--out", tmp_path / "x")
    done = tiny_job.miaotui("optimize", *arguments, status=2)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "not a folder" in line


def test_pickled_weights(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "save_pretrained" in refused(tmp_path, folder)


def test_a_full_place_is_not_overwritten(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "rows.csv").write_text(GOOD, encoding="utf-8")
    assert "holds something else" in last_line(model, tmp_path / "rows.csv", out)
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_place_that_cannot_be_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "rows.csv").write_text(GOOD, encoding="utf-8")
    line = last_line(model, tmp_path / "rows.csv", tmp_path / "file" / "x")
    assert "cannot be written" in line


def test_surgery_on_an_unknown_family(tmp_path: Path) -> None:
    save_tiny(UNKNOWN, tmp_path / "unknown")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps: [{name: prune-structure, keep_time: 0.5}]\nengine: {name: onnxruntime}\n",
        encoding="utf-8",
    )
    line = refused(tmp_path, tmp_path / "unknown", "--recipe", str(recipe))
    assert f"{UNKNOWN} has no adapter" in line


def test_folders_that_are_no_model(tmp_path: Path, model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in refused(tmp_path, empty)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((model / "config.json").read_bytes())
    assert "no weights" in refused(tmp_path, bare)


def test_missing_rows(tmp_path: Path, model: Path) -> None:
    assert "none.csv" in last_line(model, tmp_path / "none.csv", tmp_path / "x")
    assert not (tmp_path / "x").exists()
