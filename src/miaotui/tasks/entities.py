"""Tags of words and the entities they stand for, in BIO, BIOES and IO.

BIO: B begins an entity, I goes on with it, O is none. BIOES: E ends one too, S is one of a single
word. IO: neighbours of one type are one entity.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

OUTSIDE = "O"
_NAMES = {"M": "I", "L": "E", "U": "S"}
"""Other letters for the same: BMESO and BILOU."""


class Scheme(StrEnum):
    """Which tags there are."""

    BIO = "BIO"
    BIOES = "BIOES"
    IO = "IO"


@dataclass(frozen=True)
class Spans:
    """Entities among the words of many rows, one after another: words `first` to `last` (exclusive)
    are of type `kind`, a number. In the order of their words."""

    first: Int64[ndarray, " entities"]
    last: Int64[ndarray, " entities"]
    kind: Int64[ndarray, " entities"]

    def of(self, kind: int | None) -> "Spans":
        """Those of one type; all for None."""
        own = slice(None) if kind is None else self.kind == kind
        return Spans(self.first[own], self.last[own], self.kind[own])


@dataclass(frozen=True)
class Tags:
    """The labels of a tagger, as letters and types."""

    labels: tuple[str, ...]

    @property
    def scheme(self) -> Scheme:
        letters = {letter for letter, kind in map(parts, self.labels) if kind}
        if letters & {"E", "S"}:
            return Scheme.BIOES
        return Scheme.BIO if "B" in letters else Scheme.IO

    @property
    def kinds(self) -> tuple[str, ...]:
        """Types of entities, in the order of the labels."""
        return tuple(dict.fromkeys(kind for _, kind in map(parts, self.labels) if kind))

    def spans(
        self, tags: Int64[ndarray, " words"], row_starts: Int64[ndarray, " rows_plus_1"]
    ) -> Spans:
        """The entities that the tags spell without a fault, as seqeval's strict mode has it: in BIO
        one begins with B, in BIOES it ends with E too. `tags` are indices of labels."""
        kinds = {kind: i for i, kind in enumerate(self.kinds)}
        split = [parts(label) for label in self.labels]
        letter = np.array([letter for letter, _ in split] or [""])[tags]
        kind = np.array([kinds.get(kind, -1) for _, kind in split] or [0], dtype=np.int64)[tags]
        goes_on = self._goes_on(letter, kind, row_starts)
        ends = np.append(np.flatnonzero(~goes_on), len(tags))
        begins = np.flatnonzero(self._begins(letter, kind, goes_on))
        last = ends[np.searchsorted(ends, begins, side="right")] if len(begins) else begins
        if self.scheme is Scheme.BIOES:
            whole = np.where(last - begins > 1, letter[last - 1] == "E", letter[begins] == "S")
            begins, last = begins[whole], last[whole]
        return Spans(begins, last, kind[begins])

    def _goes_on(
        self, letter: ndarray, kind: ndarray, row_starts: Int64[ndarray, " rows_plus_1"]
    ) -> Bool[ndarray, " words"]:
        """Words whose tag goes on with the entity of the word before."""
        goes_on = np.zeros(len(letter), dtype=bool)
        open_before = np.isin(letter[:-1], ("B", "I"))
        goes_on[1:] = np.isin(letter[1:], ("I", "E")) & open_before & (kind[1:] == kind[:-1])
        inner = row_starts[(row_starts > 0) & (row_starts < len(letter))]
        goes_on[inner] = False
        return goes_on

    def _begins(
        self, letter: ndarray, kind: ndarray, goes_on: Bool[ndarray, " words"]
    ) -> Bool[ndarray, " words"]:
        if self.scheme is Scheme.IO:
            return (kind >= 0) & ~goes_on  # type: ignore[no-any-return]
        begin: Bool[ndarray, " words"] = np.isin(letter, ("B", "S"))
        return begin

    def write(self, spans: Iterable[tuple[int, int, str]], words: int) -> list[str]:
        """Tags of a row that spell these entities (first, last exclusive, type), in the
        tagger's own labels."""
        named = {parts(label): label for label in self.labels}
        tags = [named.get((OUTSIDE, ""), OUTSIDE)] * words
        for first, last, kind in spans:
            for i in range(first, last):
                letter = self._letter(i == first, i + 1 == last)
                tags[i] = named.get((letter, kind), f"{letter}-{kind}")
        return tags

    def _letter(self, first: bool, last: bool) -> str:
        if self.scheme is Scheme.IO:
            return "I"
        if self.scheme is Scheme.BIO:
            return "B" if first else "I"
        return ("S" if last else "B") if first else ("E" if last else "I")


def parts(tag: str) -> tuple[str, str]:
    """Letter and type of a tag: ("B", "PER"). A name without a letter is of IO: ("I", name)."""
    if tag in ("", OUTSIDE):
        return OUTSIDE, ""
    letter, dash, kind = tag.partition("-")
    if dash and kind and letter in (*"BIES", *_NAMES):
        return _NAMES.get(letter, letter), kind
    return "I", tag


def read_spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The entities that someone meant who wrote these tags, whatever the scheme and its faults: one
    begins at B, S, or where the type changes, and ends after E and S."""
    spans: list[tuple[int, int, str]] = []
    open_first, open_kind = 0, ""
    for i, tag in enumerate([*tags, OUTSIDE]):
        letter, kind = parts(tag)
        if open_kind and (kind != open_kind or letter in "BS"):
            spans.append((open_first, i, open_kind))
            open_kind = ""
        if kind and not open_kind:
            open_first, open_kind = i, kind
        if kind and letter in "ES":
            spans.append((open_first, i + 1, kind))
            open_kind = ""
    return spans


def labels_for(scheme: Scheme, kinds: Iterable[str]) -> tuple[str, ...]:
    """All tags of a scheme for these types, O first."""
    letters = {Scheme.BIO: "BI", Scheme.BIOES: "BIES", Scheme.IO: "I"}[scheme]
    return (OUTSIDE, *(f"{letter}-{kind}" for kind in sorted(kinds) for letter in letters))


def scheme_of_rows(rows: Sequence[Sequence[str]]) -> Scheme:
    """What rows are to be written in: BIOES where they have E or S, else BIO."""
    letters = {letter for tags in rows for letter, kind in map(parts, tags) if kind}
    return Scheme.BIOES if letters & {"E", "S"} else Scheme.BIO


def begin_with_inside(rows: Sequence[Sequence[str]]) -> bool:
    """Whether most entities begin with I, as in IOB1 and IO: then that is no fault."""
    first = [parts(tags[a])[0] for tags in rows for a, _, _ in read_spans(tags)]
    return first.count("I") > len(first) / 2
