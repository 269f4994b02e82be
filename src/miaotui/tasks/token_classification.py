"""Tagging of words: entities in texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.data.columns import ANY_COLUMNS, Columns
from miaotui.data.inputs import Words
from miaotui.data.rows import Label, Rows
from miaotui.errors import DataError
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.class_labels import class_names
from miaotui.tasks.entities import Tags, labels_for, read_spans, scheme_of_rows
from miaotui.tasks.entity_rows import holds_entities, read_entity_rows
from miaotui.tasks.metrics import AGREEMENT_NAME, Evidence, Metric, share_right
from miaotui.tasks.outputs import Outputs, Targets
from miaotui.tasks.task import SMALLEST_TRAINABLE, ConfidenceName, LossName, Task
from miaotui.tasks.text_classification import softmax
from miaotui.tasks.words import WordEncoder, words_of


@dataclass(frozen=True)
class Entity:
    """A named stretch of a text: characters `start` to `end`. `score` is the mean probability of
    its words' tags."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class TokenTag:
    """A word of a text, its tag and the tag's probability."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class EntityAnswer:
    """The entities of one text, in order; `tokens` are all its words where they were asked for."""

    entities: tuple[Entity, ...]
    tokens: tuple[TokenTag, ...] = ()
    truncated: bool = False

    def as_json(self) -> dict[str, Any]:
        tokens = {"tokens": [vars(token) for token in self.tokens]} if self.tokens else {}
        return {"entities": [vars(entity) for entity in self.entities], **tokens}


@dataclass(frozen=True)
class TokenClassification(Task):
    """A tagger's task: each word is judged by its first token. Long texts are read in overlapping
    windows, never cut."""

    tells_tokens: bool = False
    name: ClassVar[str] = "token-classification"
    aliases: ClassVar[tuple[str, ...]] = ("ner",)
    architecture: ClassVar[str] = "TokenClassification"
    reads_tokens: ClassVar[bool] = True

    @classmethod
    def read_rows(cls, path: Path, columns: Columns = ANY_COLUMNS, labelled: bool = True) -> Rows:
        return read_entity_rows(path, columns, labelled)

    @classmethod
    def suits(cls, path: Path) -> bool:
        return holds_entities(path)

    @classmethod
    def of_rows(cls, tokenizer: Tokenizer, rows: Rows, max_tokens: int) -> Self:
        tags = _tags(rows)
        kinds = {kind for row in tags for _, _, kind in read_spans(row)}
        return cls(tokenizer, labels_for(scheme_of_rows(tags), kinds), max_tokens)

    @classmethod
    def of_model(cls, tokenizer: Tokenizer, config: Any, max_tokens: int) -> Self:
        return cls(tokenizer, class_names(config), max_tokens)

    @classmethod
    def of_facts(cls, tokenizer: Tokenizer, facts: Mapping[str, Any]) -> Self:
        return cls(tokenizer, tuple(facts["labels"]), int(facts["max_tokens"]))

    @classmethod
    def read_answer(cls, told: Mapping[str, Any]) -> EntityAnswer:
        entities = tuple(Entity(**entity) for entity in told["entities"])
        return EntityAnswer(entities, tuple(TokenTag(**token) for token in told["tokens"]))

    @cached_property
    def tags(self) -> Tags:
        return Tags(self.labels)

    @cached_property
    def _words(self) -> WordEncoder:
        return WordEncoder(self.tokenizer, self.max_tokens)

    def encode(self, texts: Sequence[Text]) -> EncodedRows:
        return self._words.encode([words_of(text) for text in texts])

    def readable(self, rows: EncodedRows) -> EncodedRows:
        readouts = rows.readouts_or_all()
        return EncodedRows(rows.ids, rows.starts, rows.type_ids, rows.truncated, readouts)

    def targets(self, rows: Rows, encoded: EncodedRows) -> Targets:
        """int64 [readouts]: the number of each word's tag."""
        numbers = {label: i for i, label in enumerate(self.labels)}
        written = [self.tags.write(read_spans(tags), len(tags)) for tags in _tags(rows)]
        unknown = sorted({tag for tags in written for tag in tags} - set(numbers))
        if unknown:
            raise DataError(
                f"tags unknown to the model: {', '.join(unknown[:5])}; it knows "
                f"{', '.join(self.labels[:9])}; rename the tags of the rows"
            )
        flat = np.array([numbers[tag] for tags in written for tag in tags], dtype=np.int64)
        firsts = np.concatenate([[0], np.cumsum([len(tags) for tags in written])]).astype(np.int64)
        readouts = encoded.readouts_or_all()
        whole = readouts.merged(encoded.input_starts)
        of_text = np.repeat(firsts[:-1], whole.lengths)
        return Targets(flat[of_text + readouts.values[:, 1]], readouts.starts)

    def labels_of(self, rows: EncodedRows, outputs: Outputs) -> list[Label]:
        """The tags of each text's words, as the entities read from them are written."""
        words = rows.readouts_or_all().merged(rows.input_starts)
        merged = outputs.merged(rows.input_starts)
        best = merged.values.argmax(axis=1) if len(merged.values) else np.zeros(0, dtype=np.int64)
        spans, place = self.tags.spans(best, merged.starts), words.values[:, 1]
        text = np.searchsorted(merged.starts, spans.first, side="right") - 1
        found: list[list[tuple[int, int, str]]] = [[] for _ in range(len(merged))]
        numbers = (text, place[spans.first], place[spans.last - 1], spans.kind)
        for i, first, last, kind in zip(*(n.tolist() for n in numbers), strict=True):
            found[i].append((first, last + 1, self.tags.kinds[kind]))
        most = [
            int(place[a:b].max(initial=-1)) + 1
            for a, b in zip(merged.starts[:-1], merged.starts[1:], strict=True)
        ]
        return [tuple(self.tags.write(*row)) for row in zip(found, most, strict=True)]

    def answers(
        self, texts: Sequence[Text], rows: EncodedRows, outputs: Outputs
    ) -> list[EntityAnswer]:
        words = rows.readouts_or_all().merged(rows.input_starts)
        merged = outputs.merged(rows.input_starts)
        scores = softmax(merged.values) if len(merged.values) else merged.values
        tags = scores.argmax(axis=1) if len(scores) else np.zeros(0, dtype=np.int64)
        best = scores.max(axis=1) if len(scores) else np.zeros(0)
        reading = _Reading(self.tags, texts, words.values[:, 1], merged.starts, tags, best)
        entities = reading.entities()
        tokens = reading.tokens() if self.tells_tokens else [()] * len(texts)
        return [EntityAnswer(*both) for both in zip(entities, tokens, strict=True)]

    def detailed(self) -> Self:
        return type(self)(self.tokenizer, self.labels, self.max_tokens, tells_tokens=True)

    @property
    def loss(self) -> LossName:
        return "cross-entropy"

    @property
    def confidence(self) -> ConfidenceName:
        return "least-margin"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("entity_f1", partial(entity_counts, self.tags), micro_f1),
            Metric("token_accuracy", _token_counts, _share_right),
            Metric(AGREEMENT_NAME, partial(_rows_alike, self.tags), share_right, is_share=True),
        )

    @property
    def class_metrics(self) -> Mapping[str, Metric]:
        """F1 of each type of entity."""
        return {
            name: Metric("entity_f1", partial(_counts_of_kind, self.tags, kind), micro_f1)
            for kind, name in enumerate(self.tags.kinds)
        }

    def classes_of(self, label: Label) -> Sequence[str]:
        """The types of its entities."""
        tags = label if isinstance(label, tuple) else ()
        return [kind for _, _, kind in read_spans([str(tag) for tag in tags])]

    def check_trainable(self, rows: Rows) -> None:
        if rows.labels is None:
            raise DataError(f"{rows.source} has no tags; give tagged rows")
        if len(rows) < SMALLEST_TRAINABLE:
            raise DataError(
                f"{rows.source} has {len(rows)} rows, expected at least {SMALLEST_TRAINABLE}; "
                "tag some more"
            )
        if not any(read_spans(tags) for tags in _tags(rows)):
            raise DataError(f"{rows.source} has no entity at all; give rows that have some")

    def progress(self, outputs: Outputs, targets: Targets) -> float:
        return micro_f1(entity_counts(self.tags, outputs, targets))

    def same_answers(self, a: Outputs, b: Outputs) -> Bool[ndarray, " rows"]:
        """Every word's tag the same."""
        return np.bincount(_row_of(a)[_differ(a, b)], minlength=len(a)) == 0  # type: ignore[no-any-return]

    def divergence(self, a: Outputs, b: Outputs) -> float:
        """The share of words that are tagged otherwise."""
        return float(_differ(a, b).mean()) if len(a.values) else 0.0


@dataclass(frozen=True)
class _Reading:
    """Tags of all readouts of some texts, on their way into answers."""

    tags: Tags
    texts: Sequence[Text]
    words: Int64[ndarray, " readouts"]
    starts: Int64[ndarray, " texts_plus_1"]
    tag: Int64[ndarray, " readouts"]
    best: ndarray

    def entities(self) -> list[tuple[Entity, ...]]:
        spans = self.tags.spans(self.tag, self.starts)
        kinds = self.tags.kinds
        texts = np.searchsorted(self.starts, spans.first, side="right") - 1
        sums = np.concatenate([[0.0], np.cumsum(self.best)])
        scores = (sums[spans.last] - sums[spans.first]) / np.maximum(spans.last - spans.first, 1)
        answers: list[list[Entity]] = [[] for _ in self.texts]
        split: dict[int, Words] = {}
        numbers = (texts, self.words[spans.first], self.words[spans.last - 1], spans.kind, scores)
        for text, first, last, kind, score in zip(*(n.tolist() for n in numbers), strict=True):
            if text not in split:
                split[text] = words_of(self.texts[text])
            words = split[text]
            a, b = words.starts[first], words.ends[last]
            answers[text].append(Entity(kinds[kind], words.text[a:b], a, b, score))
        return [tuple(answer) for answer in answers]

    def tokens(self) -> list[tuple[TokenTag, ...]]:
        answers = []
        for text, a, b in zip(self.texts, self.starts[:-1], self.starts[1:], strict=True):
            words = words_of(text)
            answers.append(
                tuple(
                    TokenTag(
                        self.tags.labels[tag],
                        words.text[words.starts[word] : words.ends[word]],
                        words.starts[word],
                        words.ends[word],
                        score,
                    )
                    for word, tag, score in zip(
                        self.words[a:b].tolist(),
                        self.tag[a:b].tolist(),
                        self.best[a:b].tolist(),
                        strict=True,
                    )
                )
            )
        return answers


def entity_counts(
    tags: Tags, outputs: Outputs, targets: Targets, kind: int | None = None
) -> Evidence:
    """Of each row: entities right, predicted, true; all or of one type. Right is what has the same
    words and type."""
    predicted = tags.spans(outputs.values.argmax(axis=1), outputs.starts).of(kind)
    true = tags.spans(targets.values, targets.starts).of(kind)
    ends = np.full(len(targets.values) + 1, -1, dtype=np.int64)
    kinds = ends.copy()
    ends[true.first], kinds[true.first] = true.last, true.kind
    right = predicted.first[
        (ends[predicted.first] == predicted.last) & (kinds[predicted.first] == predicted.kind)
    ]
    row, rows = _row_of(targets), len(targets)
    counts = [
        np.bincount(row[words], minlength=rows) for words in (right, predicted.first, true.first)
    ]
    return np.stack(counts, axis=1)


def _counts_of_kind(tags: Tags, kind: int, outputs: Outputs, targets: Targets) -> Evidence:
    """None where no entity is of that type."""
    counts = entity_counts(tags, outputs, targets, kind)
    return counts if counts[:, 2].any() else counts[:0]


def micro_f1(counts: Evidence) -> float:
    """2 right / (predicted + true) over all rows; 0 where nothing is true and nothing
    predicted (seqeval)."""
    right, predicted, true = counts.sum(axis=0).tolist()
    return 2 * right / (predicted + true) if predicted + true else 0.0


def _token_counts(outputs: Outputs, targets: Targets) -> Evidence:
    """Of each row: words tagged right, words."""
    right = outputs.values.argmax(axis=1) == targets.values
    row, rows = _row_of(targets), len(targets)
    return np.stack([np.bincount(row[right], minlength=rows), targets.lengths], axis=1)


def _rows_alike(tags: Tags, outputs: Outputs, targets: Targets) -> Bool[ndarray, "rows 1"]:
    """Whether a row's entities are those of its targets, no more and no fewer."""
    counts = entity_counts(tags, outputs, targets)
    alike: Bool[ndarray, "rows 1"] = (counts == counts[:, :1]).all(axis=1)[:, None]
    return alike


def _share_right(counts: Evidence) -> float:
    right, words = counts.sum(axis=0).tolist()
    return right / words if words else 0.0


def _differ(a: Outputs, b: Outputs) -> Bool[ndarray, " readouts"]:
    """Readouts tagged otherwise, or not finite."""
    if not len(a.values):
        return np.zeros(0, dtype=bool)
    finite = (np.isfinite(a.values) & np.isfinite(b.values)).all(axis=1)
    return (a.values.argmax(axis=1) != b.values.argmax(axis=1)) | ~finite  # type: ignore[no-any-return]


def _row_of(ragged: Outputs) -> Int64[ndarray, " readouts"]:
    return np.repeat(np.arange(len(ragged)), ragged.lengths)


def _tags(rows: Rows) -> list[tuple[str, ...]]:
    return [tuple(map(str, tags)) if isinstance(tags, tuple) else () for tags in rows.labels or ()]
