"""A task in a folder: `task.json` and `tokenizer.json`."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from miaotui.errors import ModelError, first_line
from miaotui.tasks import TASKS, Task

TASK_FILE = "task.json"
TOKENIZER_FILE = "tokenizer.json"
_OF_TOKENIZERS = (Exception,)
"""What the library `tokenizers` raises of a file that it cannot read: it has nothing narrower."""
_TOKENIZER_MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")


def save_task(task: Task, folder: Path) -> None:
    """Writes both files."""
    (folder / TOKENIZER_FILE).write_text(task.tokenizer.to_str(), encoding="utf-8")
    facts = json.dumps(task.facts(), indent=2, ensure_ascii=False)
    (folder / TASK_FILE).write_text(facts, encoding="utf-8")


def open_task(folder: Path) -> Task:
    """What `save_task` wrote; a missing or strange file is a ModelError."""
    try:
        facts = json.loads((folder / TASK_FILE).read_text(encoding="utf-8"))
        if facts["task"] not in TASKS:
            raise ModelError(f"{folder / TASK_FILE}: there is no task {facts['task']}")
        return TASKS[facts["task"]].of_facts(read_tokenizer(folder / TOKENIZER_FILE), facts)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} lacks {Path(error.filename).name}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / TASK_FILE} is not a task description: {error}") from error


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json; anything else in it is a ModelError."""
    text = path.read_text(encoding="utf-8")
    try:
        model = json.loads(text)["model"]
        kind = model.get("type")  # which older versions left out
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a tokenizer: it holds no model") from error
    if kind is not None and kind not in _TOKENIZER_MODELS:
        raise ModelError(f"{path}: unknown tokenizer {kind}; known: {', '.join(_TOKENIZER_MODELS)}")
    try:
        return Tokenizer.from_str(text)
    except _OF_TOKENIZERS as error:
        raise ModelError(f"{path} is not a tokenizer: {first_line(error)}") from error
