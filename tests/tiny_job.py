"""Rows for a tiny random model, labelled as it answers them, and the command line run on them."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miaotui.models.load import find_model, load_model
from miaotui.models.observe import padded, read
from miaotui.tasks.base import Text
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.problems import Problem
from miaotui.tasks.words import split_words
from tiny import SENTENCES

NOISE = 0.1
"""Share of labels drawn by chance, so that the model is good and not perfect."""


def texts(count: int, pairs: bool = False, seed: int = 0) -> list[Text]:
    """Distinct texts of 3 to 14 words that the tiny tokenizer knows."""
    draw = np.random.default_rng(seed)
    words = sorted(set(re.findall(r"\w+", " ".join(SENTENCES))))

    def one() -> str:
        return " ".join(draw.choice(words, draw.integers(3, 15)))

    return [(one(), one()) if pairs else one() for _ in range(count)]


def write_rows(path: Path, folder: Path, count: int, pairs: bool = False, seed: int = 0) -> Path:
    """CSV rows with the labels that the model in `folder` gives them, some replaced by chance."""
    model = load_model(find_model(str(folder)))
    chosen = texts(count, pairs, seed)
    encoded = model.task.encode(chosen)
    answers = model.task.answers(chosen, encoded, outputs_of(model, encoded))
    draw = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["text", "text_pair", "label"] if pairs else ["text", "label"])
        for text, answer in zip(chosen, answers, strict=True):
            label: Any = answer.label
            if model.task.problem is Problem.MULTI_LABEL:
                label = json.dumps(list(answer.labels))
            if model.task.problem is Problem.REGRESSION:
                label = f"{answer.score + draw.normal(0, 0.1):.4f}"
            elif model.task.problem is Problem.SINGLE_LABEL and draw.random() < NOISE:
                label = draw.choice(model.task.labels)
            writer.writerow([*(text if pairs else [text]), label])
    return path


def write_entities(path: Path, folder: Path, count: int, seed: int = 0) -> Path:
    """CoNLL columns with the tags that the tagger in `folder` gives them, some replaced by
    chance."""
    model = load_model(find_model(str(folder)))
    chosen = [split_words(str(text)) for text in texts(count, seed=seed)]
    encoded = model.task.encode(chosen)
    outputs = outputs_of(model, encoded)
    draw = np.random.default_rng(seed)
    lines = []
    for i, words in enumerate(chosen):
        found = outputs.select([i]).values.argmax(axis=1)
        tags = [model.task.labels[tag] for tag in found]
        for word, tag in zip(words.words, tags, strict=True):
            noisy = draw.choice(model.task.labels) if draw.random() < NOISE / 4 else tag
            lines.append(f"{word} {noisy}")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def outputs_of(model: Any, encoded: Any) -> Outputs:
    import torch

    found = []
    with torch.inference_mode():
        for part in encoded.chunks(256):
            if model.has_adapter:
                batch = padded(part, list(range(len(part))))
                found.append(model.encoder(*batch)[read(part)].numpy())
            else:
                ids, _, segments, types, _ = padded(part, list(range(len(part))))
                found.append(model.module(ids, segments, types).numpy())
    return Outputs(np.concatenate(found), encoded.readout_starts)


def miaotui(
    *arguments: object, status: int = 0, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own; `status` is the exit status expected."""
    done = subprocess.run(
        [sys.executable, "-m", "miaotui", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | (variables or {}),
    )
    assert done.returncode == status, done.stderr[-3000:]
    return done


def optimized(model: Path, rows: Path, out: Path, *more: object) -> dict[str, Any]:
    """The document of `optimize`."""
    arguments: Sequence[object] = (model, "--data", rows, "--out", out, *more, "--json")
    return json.loads(miaotui("optimize", *arguments).stdout)
