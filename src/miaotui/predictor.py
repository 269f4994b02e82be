"""Texts in, answers out. Imports neither torch nor transformers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Self

from miaotui.data.inputs import Words
from miaotui.drift import Drift
from miaotui.engines.base import RowRunner
from miaotui.errors import DataError
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.task import Answer, Task


class Answerer(ABC):
    """What answers texts: a predictor, ours or a rival's, or several processes. Safe to call from
    several threads."""

    warnings: tuple[str, ...] = ()
    """What opening it found different from where it was measured."""

    def __call__(self, texts: Sequence[Text]) -> list[Answer]:
        """One answer a text, in order. What is no text is a DataError that names its place."""
        _refuse_one(texts)
        checked = checked_texts(texts)
        return self.answer(checked) if checked else []

    @abstractmethod
    def answer(self, texts: list[Text]) -> list[Answer]:
        """One answer a text, in order; at least one text, all of them checked."""

    @abstractmethod
    def stream(self, texts: Iterable[Text], rows: int = 1024) -> Iterator[Answer]:
        """Answers in order, as they are ready, `rows` texts at a time."""

    @abstractmethod
    def drift(self) -> Drift | None:
        """Of a cascade: whether the last rows are still like those that were measured."""

    @abstractmethod
    def close(self) -> None:
        """Gives back threads, memory and processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Predictor(Answerer):
    """A task and a session over its model."""

    def __init__(self, task: Task, session: RowRunner, warnings: Sequence[str] = ()) -> None:
        self.task = task
        self.session = session
        self.warnings = tuple(warnings)

    def answer(self, texts: list[Text]) -> list[Answer]:
        rows = self.task.encode(texts)
        return list(self.task.answers(texts, rows, self.outputs(rows)))

    def outputs(self, rows: EncodedRows) -> Outputs:
        """What the model gives of encoded rows."""
        return self.session.run(rows)

    def stream(self, texts: Iterable[Text], rows: int = 1024) -> Iterator[Answer]:
        return chain.from_iterable(map(self.answer, chunks_of(texts, rows)))

    def drift(self) -> Drift | None:
        return self.session.drift()

    def close(self) -> None:
        self.session.close()


def chunks_of(texts: Iterable[Text], rows: int) -> Iterator[list[Text]]:
    """Checked texts, `rows` at a time."""
    _refuse_one(texts)
    return _chunks_of(iter(texts), rows)


def _chunks_of(waiting: Iterator[Text], rows: int) -> Iterator[list[Text]]:
    first = 0
    while chunk := list(islice(waiting, rows)):
        yield checked_texts(chunk, first)
        first += len(chunk)


def checked_texts(texts: Iterable[object], first: int = 0) -> list[Text]:
    """The texts, the first of which is number `first`; a DataError names the one that is none."""
    return [_checked(text, place) for place, text in enumerate(texts, first)]


def _checked(text: object, place: int) -> Text:
    if isinstance(text, Words):
        return text
    for part in text if isinstance(text, tuple) and len(text) == 2 else (text,):
        if not isinstance(part, str):
            raise DataError(
                f"text {place} is {part!r:.40} ({type(part).__name__}); expected a str, or a tuple "
                "of two"
            )
        if not part.isascii():
            _refuse_surrogates(part, place)
    return text  # type: ignore[return-value]


def _refuse_surrogates(text: str, place: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"text {place} has half a character ({text[error.start]!r}) at {error.start}: it was "
            'not decoded as what it is; decode its bytes with errors="replace"'
        ) from None


def _refuse_one(texts: object) -> None:
    if isinstance(texts, str | bytes):
        raise TypeError('expected several texts, got one: put it into a list, ["..."]')
