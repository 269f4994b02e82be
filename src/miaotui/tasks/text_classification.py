"""Single-label, multi-label and regression over one text or a pair of texts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.errors import ModelError
from miaotui.tasks.base import Answer, EncodedRows, Task, Text
from miaotui.tasks.wordpiece import NativeWordPiece, native_wordpiece

TASK_FILE = "task.json"
TOKENIZER_FILE = "tokenizer.json"
_ENCODE_ROWS = 4096
_EVEN = 0.5
_TOKENIZER_MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")


class Problem(StrEnum):
    """How outputs become answers, which loss trains them and which metric judges them."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"


@dataclass(frozen=True)
class TextClassification(Task):
    """A sequence classifier's task. `tokenizer` truncates at `max_tokens` and never pads."""

    tokenizer: Tokenizer
    labels: tuple[str, ...]
    problem: Problem
    max_tokens: int
    name = "text-classification"

    def encode(self, texts: Sequence[Text]) -> EncodedRows:
        pairs = sum(isinstance(text, tuple) for text in texts)
        native = self._native
        if native is None or (pairs and (pairs < len(texts) or not native.reads_pairs)):
            return self._encode_stock(texts)
        return native.encode(texts)

    @cached_property
    def _native(self) -> NativeWordPiece | None:
        return native_wordpiece(self.tokenizer, self._encode_stock)

    def _encode_stock(self, texts: Sequence[Text]) -> EncodedRows:
        encodings = [
            encoding
            for first in range(0, len(texts), _ENCODE_ROWS)
            for encoding in self.tokenizer.encode_batch_fast(
                list(texts[first : first + _ENCODE_ROWS])
            )
        ]
        lengths = np.fromiter((len(e) for e in encodings), dtype=np.int64, count=len(encodings))
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = _flat([e.ids for e in encodings], int(starts[-1]))
        truncated = np.fromiter((bool(e.overflowing) for e in encodings), bool, len(encodings))
        pairs = any(isinstance(text, tuple) for text in texts)
        types = _flat([e.type_ids for e in encodings], int(starts[-1])) if pairs else None
        return EncodedRows(
            ids,
            starts,
            types if types is not None and types.any() else None,
            truncated if truncated.any() else None,
        )

    def answers(
        self,
        logits: Float32[ndarray, "rows labels"],
        truncated: Bool[ndarray, " rows"] | None = None,
    ) -> list[Answer]:
        answers = self._read(logits) if len(logits) else []
        if truncated is None or not truncated.any():
            return answers
        cut = zip(answers, truncated, strict=True)
        return [replace(answer, truncated=bool(was_cut)) for answer, was_cut in cut]

    def _read(self, logits: Float32[ndarray, "rows labels"]) -> list[Answer]:
        """As plain Python numbers at once: row by row numpy's own would take as long as a tiny
        model."""
        labels = self.labels
        if self.problem is Problem.REGRESSION:
            return [_regression_answer(labels[0], value) for value in logits[:, 0].tolist()]
        several = self.problem is Problem.MULTI_LABEL
        scores = _sigmoid(logits) if several else _softmax(logits)
        best = scores.argmax(axis=1).tolist()
        rows: list[list[float]] = scores.tolist()
        chosen = [self._chosen(row) for row in rows] if several else [()] * len(rows)
        return [
            Answer(labels[i], row[i], dict(zip(labels, row, strict=True)), names)
            for i, row, names in zip(best, rows, chosen, strict=True)
        ]

    def _chosen(self, scores: list[float]) -> tuple[str, ...]:
        return tuple(n for n, s in zip(self.labels, scores, strict=True) if s >= _EVEN)

    def save(self, folder: Path) -> None:
        """Writes `task.json` and `tokenizer.json`."""
        (folder / TOKENIZER_FILE).write_text(self.tokenizer.to_str(), encoding="utf-8")
        facts = {
            "task": self.name,
            "problem": self.problem.value,
            "labels": list(self.labels),
            "max_tokens": self.max_tokens,
        }
        (folder / TASK_FILE).write_text(
            json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8"
        )


def text_classification(
    tokenizer: Tokenizer, labels: Sequence[str], problem: Problem, max_tokens: int
) -> TextClassification:
    """Builds the task from its own copy of `tokenizer`, set to truncate and not to pad."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.enable_truncation(max_tokens)
    return TextClassification(own, tuple(labels), problem, max_tokens)


def open_task(folder: Path) -> TextClassification:
    """Reads what `TextClassification.save` wrote; a missing or strange file is a ModelError."""
    try:
        facts = json.loads((folder / TASK_FILE).read_text(encoding="utf-8"))
        return TextClassification(
            read_tokenizer(folder / TOKENIZER_FILE),
            tuple(facts["labels"]),
            Problem(facts["problem"]),
            int(facts["max_tokens"]),
        )
    except FileNotFoundError as error:
        raise ModelError(f"{folder} lacks {Path(error.filename).name}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / TASK_FILE} is not a task description: {error}") from error


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json; anything else in it is a ModelError."""
    text = path.read_text(encoding="utf-8")
    try:
        kind = json.loads(text)["model"]["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a tokenizer: it names no model type") from error
    if kind not in _TOKENIZER_MODELS:
        raise ModelError(f"{path}: unknown tokenizer {kind}; known: {', '.join(_TOKENIZER_MODELS)}")
    return Tokenizer.from_str(text)


def _flat(rows: list[list[int]], total: int) -> ndarray:
    return np.fromiter((value for row in rows for value in row), dtype=np.int32, count=total)


def _softmax(logits: Float32[ndarray, "rows labels"]) -> Float32[ndarray, "rows labels"]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: ndarray = shifted.sum(axis=-1, keepdims=True)
    return shifted / total  # type: ignore[no-any-return]


def _sigmoid(logits: Float32[ndarray, "rows labels"]) -> Float32[ndarray, "rows labels"]:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))  # type: ignore[no-any-return]


def _regression_answer(label: str, value: float) -> Answer:
    return Answer(label, value, {label: value})
