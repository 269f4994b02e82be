"""Single-label, multi-label and regression over one text or a pair of texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.data.columns import ANY_COLUMNS, Columns
from miaotui.data.rows import Label, Rows, load_rows
from miaotui.errors import DataError
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.class_labels import (
    class_names,
    encode_labels,
    infer_label_names,
    infer_problem,
)
from miaotui.tasks.metrics import MACRO_F1, Metric
from miaotui.tasks.outputs import Outputs, Targets, one_a_row
from miaotui.tasks.problems import RULES, Problem, Rules
from miaotui.tasks.task import SMALLEST_TRAINABLE, ConfidenceName, LossName, Task
from miaotui.tasks.tokenizing import encode_stock
from miaotui.tasks.wordpiece import NativeWordPiece, native_wordpiece

_EVEN = 0.5
_ONE_SIDED = 0.9
"""Share of the rows from which one class hides the others in accuracy."""


@dataclass(frozen=True)
class LabelAnswer:
    """What a classifier says of one text.

    `score` belongs to `label`; `scores` to every label. A regression has the single label of its
    config and `score` is the predicted value. A multi-label answer's `label` is its best one and
    `labels` are all at 0.5 or above.
    """

    label: str
    score: float
    scores: dict[str, float]
    labels: tuple[str, ...] = ()
    truncated: bool = False

    def as_json(self) -> dict[str, Any]:
        labels = {"labels": list(self.labels)} if self.labels else {}
        known = {"label": self.label, "score": self.score, "scores": self.scores}
        return {**known, **labels, "truncated": self.truncated}


@dataclass(frozen=True)
class TextClassification(Task):
    """A sequence classifier's task. `tokenizer` truncates at `max_tokens` and never pads."""

    problem: Problem = Problem.SINGLE_LABEL
    name: ClassVar[str] = "text-classification"
    architecture: ClassVar[str] = "SequenceClassification"
    reads_tokens: ClassVar[bool] = False

    @classmethod
    def read_rows(cls, path: Path, columns: Columns = ANY_COLUMNS, labelled: bool = True) -> Rows:
        return load_rows(path, columns, labelled)

    @classmethod
    def suits(cls, path: Path) -> bool:
        return False  # any file with a text and a label may be of another task too

    @classmethod
    def of_rows(cls, tokenizer: Tokenizer, rows: Rows, max_tokens: int) -> Self:
        labels = rows.labels or ()
        names = infer_label_names(labels)
        return cls.of(tokenizer, names, Problem(infer_problem(labels)), max_tokens)

    @classmethod
    def of_model(cls, tokenizer: Tokenizer, config: Any, max_tokens: int) -> Self:
        stated = {rules.problem_type: problem for problem, rules in RULES.items()}
        usual = Problem.REGRESSION if config.num_labels == 1 else Problem.SINGLE_LABEL
        return cls.of(
            tokenizer, class_names(config), stated.get(config.problem_type, usual), max_tokens
        )

    @classmethod
    def of_facts(cls, tokenizer: Tokenizer, facts: Mapping[str, Any]) -> Self:
        labels, problem = tuple(facts["labels"]), Problem(facts["problem"])
        return cls(tokenizer, labels, int(facts["max_tokens"]), problem)

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, labels: Sequence[str], problem: Problem, max_tokens: int
    ) -> Self:
        """With a copy of `tokenizer` of its own, set to truncate and not to pad."""
        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_padding()
        side = (tokenizer.truncation or {}).get("direction", "right")
        own.enable_truncation(max_tokens, direction=side)
        return cls(own, tuple(labels), max_tokens, problem)

    @classmethod
    def read_answer(cls, told: Mapping[str, Any]) -> LabelAnswer:
        return LabelAnswer(**{**told, "labels": tuple(told["labels"])})

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "problem": self.problem.value}

    def model_settings(self) -> dict[str, Any]:
        return {**super().model_settings(), "problem_type": self._rules.problem_type}

    @property
    def kind(self) -> str:
        return f"{self.name} ({self.problem.value.replace('_', '-')})"

    @property
    def _rules(self) -> Rules:
        return RULES[self.problem]

    @property
    def loss(self) -> LossName:
        return self._rules.loss

    @property
    def confidence(self) -> ConfidenceName:
        return self._rules.confidence

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._rules.metrics

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
        return encode_stock(self.tokenizer, texts)

    def targets(self, rows: Rows, encoded: EncodedRows) -> Targets:
        labels = rows.labels or ()
        return one_a_row(encode_labels(labels, self.labels, self.problem, rows.label_order))

    def labels_of(self, rows: EncodedRows, outputs: Outputs) -> list[Label]:
        """Names, tuples of names, or values."""
        answers = self.read(outputs.values)
        if self.problem is Problem.REGRESSION:
            return [answer.score for answer in answers]
        if self.problem is Problem.MULTI_LABEL:
            return [answer.labels for answer in answers]
        return [answer.label for answer in answers]

    def answers(
        self, texts: Sequence[Text], rows: EncodedRows, outputs: Outputs
    ) -> list[LabelAnswer]:
        answers = self.read(outputs.values) if len(rows) else []
        if rows.truncated is None:
            return answers
        cut = zip(answers, rows.truncated, strict=True)
        return [replace(answer, truncated=bool(was_cut)) for answer, was_cut in cut]

    def read(self, logits: Float32[ndarray, "rows labels"]) -> list[LabelAnswer]:
        """As plain Python numbers at once: row by row numpy's own would take as long as a tiny
        model."""
        if not len(logits):
            return []
        labels = self.labels
        if self.problem is Problem.REGRESSION:
            return [_regression_answer(labels[0], value) for value in logits[:, 0].tolist()]
        several = self.problem is Problem.MULTI_LABEL
        scores = _sigmoid(logits) if several else softmax(logits)
        best = scores.argmax(axis=1).tolist()
        rows: list[list[float]] = scores.tolist()
        chosen = [self._chosen(row) for row in rows] if several else [()] * len(rows)
        return [
            LabelAnswer(labels[i], row[i], dict(zip(labels, row, strict=True)), names)
            for i, row, names in zip(best, rows, chosen, strict=True)
        ]

    def _chosen(self, scores: list[float]) -> tuple[str, ...]:
        return tuple(n for n, s in zip(self.labels, scores, strict=True) if s >= _EVEN)

    def classes_of(self, label: Label) -> Sequence[str]:
        return () if self.problem is Problem.REGRESSION else super().classes_of(label)

    def check_trainable(self, rows: Rows) -> None:
        """Too few, unlabelled or all alike are a DataError."""
        labels = rows.labels
        if labels is None:
            raise DataError(f"{rows.source} has no labels; give labelled rows")
        if len(rows) < SMALLEST_TRAINABLE:
            raise DataError(
                f"{rows.source} has {len(rows)} rows, expected at least {SMALLEST_TRAINABLE}; "
                "label some more"
            )
        if len(set(labels)) > 1:
            return
        if self.problem is Problem.REGRESSION:
            raise DataError(
                f"{rows.source}: every label is {labels[0]!r}; give rows with different values"
            )
        raise DataError(
            f"{rows.source} has only one class ({labels[0]!r}); give rows of at least two"
        )

    @property
    def class_metrics(self) -> Mapping[str, Metric]:
        """Recall of each class; F1 of each label where a row has several."""
        of = self._rules.class_metric
        return {} if of is None else {name: of(i) for i, name in enumerate(self.labels)}

    def metric_for(self, rows: Rows) -> tuple[Metric, str | None]:
        """Accuracy lets a model pass that always answers the class that nearly all rows have."""
        share = max(Counter(rows.labels or ()).values(), default=0) / max(len(rows), 1)
        if self.problem is not Problem.SINGLE_LABEL or share < _ONE_SIDED:
            return super().metric_for(rows)
        said = (
            f"{share:.0%} of the rows have one class: quality is macro_f1; --metric names another"
        )
        return MACRO_F1, said

    def progress(self, outputs: Outputs, targets: Targets) -> float:
        return self._rules.progress(outputs.values, targets.values)

    def same_answers(self, a: Outputs, b: Outputs) -> Bool[ndarray, " rows"]:
        """The same best label, the same set of labels, or values within 1e-4."""
        finite = (np.isfinite(a.values) & np.isfinite(b.values)).all(axis=1)
        return finite & self._rules.same(a.values, b.values)  # type: ignore[no-any-return]

    def divergence(self, a: Outputs, b: Outputs) -> float:
        """The share answered otherwise; of a regression the root mean square difference over the
        spread of `a`."""
        if self.problem is not Problem.REGRESSION:
            return super().divergence(a, b)
        spread = float(a.values.std()) or 1.0
        return float(np.sqrt(np.mean((b.values - a.values) ** 2))) / spread


def softmax(logits: Float32[ndarray, "rows labels"]) -> Float32[ndarray, "rows labels"]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: ndarray = shifted.sum(axis=-1, keepdims=True)
    return shifted / total  # type: ignore[no-any-return]


def _sigmoid(logits: Float32[ndarray, "rows labels"]) -> Float32[ndarray, "rows labels"]:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))  # type: ignore[no-any-return]


def _regression_answer(label: str, value: float) -> LabelAnswer:
    return LabelAnswer(label, value, {label: value})
