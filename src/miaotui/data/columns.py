"""Which columns hold the text, the second text of a pair, and the label."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from miaotui.errors import DataError, LabelsMissing

PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("text", "text2"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "answer"),
    ("question", "answer"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "sentence"),
)
"""Names (compared without case) of two columns that together are a pair of texts."""

TEXT_NAMES = (
    "text", "sentence", "review", "content", "query", "question", "comment", "tweet", "message",
    "utterance", "document", "body", "premise", "sentence1", "text1", "text_a", "review_body",
    "review_text", "文本", "评论", "内容", "标题", "句子", "正文",
)  # fmt: skip
"""Names of a column that holds a single text."""

LABEL_NAMES = (
    ("label", "labels", "标签"),
    (
        "class", "category", "target", "score", "stars", "rating", "sentiment", "intent", "emotion",
        "topic", "similarity", "similarity_score", "类别", "分类", "情感",
    ),
)  # fmt: skip
"""Names of a label column; those of the second group count only where the first has none."""


@dataclass(frozen=True)
class Columns:
    """The columns named by the user; None is found by the usual names.

    A `text` without a `pair` means single texts, whatever other columns there are.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None


ANY_COLUMNS = Columns()


@dataclass(frozen=True)
class FoundColumns:
    """The columns to read; `pair` is None for single texts and `label` where none is wanted."""

    text: str
    pair: str | None
    label: str | None

    @property
    def listed(self) -> tuple[str, ...]:
        return tuple(name for name in (self.text, self.pair, self.label) if name is not None)


def find_columns(
    names: Sequence[str], wanted: Columns, labelled: bool, source: str
) -> FoundColumns:
    """Picks the columns among `names`; what is missing or ambiguous is a DataError, a label that
    nobody named a LabelsMissing."""
    for option, name in (("text", wanted.text), ("pair", wanted.pair), ("label", wanted.label)):
        if name is not None and name not in names and (labelled or option != "label"):
            raise DataError(
                f"{source} has no column {name!r} for --{option}-column; it has {_listed(names)}"
            )
    label = _label_column(names, wanted, source) if labelled else None
    text, pair = _text_columns([name for name in names if name != label], wanted, source)
    found = FoundColumns(text, pair, label)
    if len(set(found.listed)) < len(found.listed):
        raise DataError(
            f"{source}: one column is named for two purposes; name different ones with "
            "--text-column, --pair-column and --label-column"
        )
    return found


def _label_column(names: Sequence[str], wanted: Columns, source: str) -> str:
    if wanted.label is not None:
        return wanted.label
    taken = (wanted.text, wanted.pair)
    for group in LABEL_NAMES:
        candidates = _named(names, group, taken)
        if candidates:
            return _only(candidates, names, "label", source)
    raise _missing(names, "label", source)


def _text_columns(names: Sequence[str], wanted: Columns, source: str) -> tuple[str, str | None]:
    if wanted.text is not None:
        return wanted.text, wanted.pair
    if wanted.pair is not None:
        candidates = _named(names, TEXT_NAMES, (wanted.pair,))
        return _only(candidates, names, "text", source), wanted.pair
    pairs = [
        (first, second)
        for first_name, second_name in PAIR_NAMES
        for first in _named(names, (first_name,))
        for second in _named(names, (second_name,))
    ]
    singles = _named(names, TEXT_NAMES, [name for pair in pairs for name in pair])
    if len(pairs) == 1 and not singles:
        return pairs[0]
    return _only([name for pair in pairs for name in pair] + singles, names, "text", source), None


def _named(
    names: Sequence[str], usual: Collection[str], taken: Collection[str | None] = ()
) -> list[str]:
    return [name for name in names if name.lower() in usual and name not in taken]


def _only(candidates: Sequence[str], names: Sequence[str], what: str, source: str) -> str:
    if not candidates:
        raise _missing(names, what, source)
    if len(candidates) > 1:
        distinct = list(dict.fromkeys(candidates))
        also = " (and --pair-column for the second text of a pair)" if what == "text" else ""
        raise DataError(
            f"{source}: several columns could be the {what} ({_listed(distinct)}); name one with "
            f"--{what}-column{also}; it has {_listed(names)}"
        )
    return candidates[0]


def _missing(names: Sequence[str], what: str, source: str) -> DataError:
    kind = LabelsMissing if what == "label" else DataError
    return kind(
        f"{source} has no {what} column of a usual name; name it with --{what}-column; "
        f"it has {_listed(names)}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "no columns"
