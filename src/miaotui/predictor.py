"""Texts in, answers out. Imports neither torch nor transformers."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Self

from miaotui.drift import Drift
from miaotui.engines.base import RowRunner
from miaotui.tasks.base import EncodedRows, Text
from miaotui.tasks.outputs import Outputs
from miaotui.tasks.task import Answer, Task


class Predictor:
    """A task and a session over its model; safe to call from several threads."""

    def __init__(self, task: Task, session: RowRunner, warnings: Sequence[str] = ()) -> None:
        self.task = task
        self.session = session
        self.warnings = tuple(warnings)
        """What opening it found different from where it was measured."""

    def __call__(self, texts: Sequence[Text]) -> list[Answer]:
        """One answer a text, in order."""
        if isinstance(texts, str):
            raise TypeError('a predictor takes a list of texts: predictor(["..."])')
        if not len(texts):
            return []
        rows = self.task.encode(texts)
        return list(self.task.answers(texts, rows, self.outputs(rows)))

    def outputs(self, rows: EncodedRows) -> Outputs:
        """What the model gives of encoded rows."""
        return self.session.run(rows)

    def stream(self, texts: Iterable[Text], rows: int = 1024) -> Iterator[Answer]:
        """Answers as they are ready, `rows` texts at a time."""
        waiting = iter(texts)
        while chunk := list(islice(waiting, rows)):
            yield from self(chunk)

    def drift(self) -> Drift | None:
        """Of a cascade: whether the last rows are still like those that were measured."""
        return self.session.drift()

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
