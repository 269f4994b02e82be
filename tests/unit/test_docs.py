"""What the documentation shows can be typed: commands, options, recipes, Python, names."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from miaotui.cli import app
from miaotui.engines import ENGINES
from miaotui.recipe import read_recipe
from miaotui.techniques import TECHNIQUES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def commands() -> list[tuple[str, str]]:
    """Every command line of ours, fenced or inline, with the page it stands on."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`(miaotui [a-z]+ [^`]*--[^`]*)`", FENCE.sub("", text))
        fenced = [line for block in blocks(page, "", "sh") for line in block.splitlines()]
        lines = [line.strip() for line in [*inline, *fenced]]
        found += [(page.name, line) for line in lines if line.startswith("miaotui ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=str)
def test_a_command_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    verb, *arguments = shlex.split(line.split("  #")[0])[1:]
    group = typer.main.get_command(app)
    command = group.get_command(None, verb)  # type: ignore[attr-defined]
    assert command is not None, f"there is no verb {verb}"
    command.make_parser(typer.Context(command)).parse_args(list(arguments))


def test_there_are_commands_to_try() -> None:
    assert len(commands()) >= 16


def recipes() -> list[str]:
    return [block for page in PAGES for block in blocks(page, "yaml")]


@pytest.mark.parametrize("text", recipes())
def test_a_recipe_is_valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    read_recipe(path)


def test_python_blocks_use_names_that_exist() -> None:
    import miaotui

    code = [block for page in PAGES for block in blocks(page, "python")]
    assert code
    for block in code:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "miaotui":
                assert hasattr(miaotui, node.attr)


@pytest.mark.parametrize("name", [*TECHNIQUES, *ENGINES])
def test_every_technique_and_engine_has_a_row(name: str) -> None:
    page = ROOT / "docs" / "reference" / "engines-and-techniques.md"
    assert re.search(rf"^\| {re.escape(name)} \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_readmes_show_the_same_commands() -> None:
    english = [line.split("  #")[0].strip() for page, line in commands() if page == "README.md"]
    chinese = [
        line.split("  #")[0].strip() for page, line in commands() if page == "README.zh-CN.md"
    ]
    assert english == chinese
