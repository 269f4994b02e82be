"""Progress and facts on a terminal. Progress goes to stderr, results to stdout."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_LINE_EVERY_S = 10.0


class _News(Protocol):
    @property
    def stage(self) -> str: ...
    @property
    def trying(self) -> str: ...
    @property
    def best(self) -> str: ...
    @property
    def left_s(self) -> float: ...
    @property
    def note(self) -> str: ...


def show(*parts: RenderableType) -> None:
    """Prints results on stdout; strings in them are shown as they are, since names of folders and
    labels may look like rich's markup."""
    console = Console(markup=False, emoji=False)
    for part in parts:
        console.print(part)


def show_facts(facts: Mapping[str, Any]) -> None:
    """A table of names and values; nested mappings a line each."""
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            for key, inner in value.items():
                table.add_row(f"{name}.{key}", _text(inner))
        else:
            table.add_row(name, _text(value))
    show(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, tuple | list):
        return ", ".join(_text(v) for v in value) or "-"
    return "-" if value is None else str(value)


def _bar(*columns: TextColumn) -> Progress:
    return Progress(
        SpinnerColumn(),
        *columns,
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def steps_bar(title: str) -> Iterator[Callable[[int, int, float, float | None], None]]:
    """A bar over training steps with the time left and the last validation metric. Where stderr is
    no terminal, a line every ten seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _step_lines(title, console)
        return
    line = TextColumn("{task.description} {task.fields[note]}", markup=False)
    with _bar(line) as progress:
        bar = progress.add_task(title, total=None, note="")

        def update(step: int, total: int, eta_s: float, metric: float | None) -> None:
            note = _step_note(step, total, eta_s, metric)
            progress.update(bar, completed=step, total=total, note=note)

        yield update


@contextmanager
def share_bar() -> Iterator[Callable[[str, float], None]]:
    """A bar over what is done now, by the share of it that is done. Where stderr is no terminal, a
    line where that changes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _share_lines(console)
        return
    with _bar(TextColumn("{task.description}", markup=False)) as progress:
        bar = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(bar, description=what, completed=share)


def _share_lines(console: Console) -> Callable[[str, float], None]:
    last = [""]

    def update(what: str, share: float) -> None:
        if what != last[0]:
            last[0] = what
            console.print(what, soft_wrap=True, markup=False, highlight=False)

    return update


def _step_note(step: int, total: int, eta_s: float, metric: float | None) -> str:
    known = "" if metric is None else f", validation {metric:.4f}"
    return f"step {step} of {total}, {eta_s:.0f} s left{known}"


def _step_lines(title: str, console: Console) -> Callable[[int, int, float, float | None], None]:
    told = [0.0]

    def update(step: int, total: int, eta_s: float, metric: float | None) -> None:
        if time.monotonic() - told[0] >= _LINE_EVERY_S or step == total:
            told[0] = time.monotonic()
            console.print(f"{title} {_step_note(step, total, eta_s, metric)}", highlight=False)

    return update


@contextmanager
def search_bar(budget_s: float) -> Iterator[Callable[[_News], None]]:
    """A bar over the time budget: the stage, what is tried, the best so far, the time left. Where
    stderr is no terminal, a line for each thing tried."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    line = TextColumn("{task.description}", markup=False)
    best = TextColumn("{task.fields[best]}", style="green", markup=False)
    with _bar(line, best) as progress:
        bar = progress.add_task("loading", total=budget_s, best="")

        def update(news: _News) -> None:
            if news.note:
                progress.console.print(news.note, soft_wrap=True, markup=False, highlight=False)
                return
            description = f"{news.stage}: {news.trying}, {max(news.left_s, 0):.0f} s left"
            shown = f"best {news.best}" if news.best else ""
            done = budget_s - news.left_s
            progress.update(bar, description=description, completed=done, best=shown)

        yield update


def _lines(console: Console) -> Callable[[_News], None]:
    last = [""]

    def update(news: _News) -> None:
        if news.note:
            console.print(news.note, soft_wrap=True, markup=False, highlight=False)
            return
        what = f"{news.stage}: {news.trying.split(':')[0]}"
        if what != last[0]:
            last[0] = what
            best = f" (best {news.best})" if news.best not in ("", "-") else ""
            console.print(
                f"[{news.left_s:4.0f} s left] {news.stage}: {news.trying}{best}",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )

    return update
