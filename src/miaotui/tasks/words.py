"""Words of texts, and the token ids that a tokenizer makes of them one by one."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.data.inputs import Text, Words
from miaotui.errors import DataError
from miaotui.tasks.base import EncodedRows
from miaotui.tasks.outputs import Ragged
from miaotui.tasks.tokenizing import encode_stock, flat
from miaotui.tasks.wordpiece import NativeWordPiece, native_wordpiece

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUN = rf"[^\W{_CJK}]+"
_WORD = re.compile(rf"[{_CJK}]|['’]s\b|{_RUN}(?:(?!['’]s\b)[-'’.,&/]{_RUN})*|[^\w\s]")
_IDEOGRAPH = re.compile(f"[{_CJK}]")
_OVERLAP = 4
"""A window shares one token of so many with the next one."""


def split_words(text: str) -> Words:
    """Runs of letters and digits, with what joins them inside (don't, U.S, 1,000); 's, every
    Chinese or Japanese character and every mark by itself."""
    spans = [match.span() for match in _WORD.finditer(text)]
    return Words(text, tuple(a for a, _ in spans), tuple(b for _, b in spans))


def join_words(words: Sequence[str]) -> Words:
    """The words as one text: a space between them, none between two Chinese characters."""
    parts: list[str] = []
    starts, ends, at = [], [], 0
    for word in words:
        close = parts and _IDEOGRAPH.match(parts[-1][-1:]) and _IDEOGRAPH.match(word[:1])
        if parts and not close:
            parts.append(" ")
            at += 1
        starts.append(at)
        at += len(word)
        ends.append(at)
        parts.append(word)
    return Words("".join(parts), tuple(starts), tuple(ends))


def words_of(text: Text) -> Words:
    """The words of an input; a pair has none (DataError)."""
    if isinstance(text, tuple):
        raise DataError("a pair of texts cannot be tagged; give single texts")
    return text if isinstance(text, Words) else split_words(text)


@dataclass(frozen=True)
class Pieces:
    """Token ids of many words: word `i` owns `ids[starts[i]:starts[i + 1]]`, none it may be."""

    ids: Int32[ndarray, " pieces"]
    starts: Int64[ndarray, " words_plus_1"]


class WordEncoder:
    """Encodes words one by one, and texts of them as rows that are read at each word's first token.
    Texts over the maximum become overlapping windows; each word is read in one of them, where it
    has most around it."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._whole = _spaced(tokenizer)
        self._whole.no_padding()
        self._whole.no_truncation()
        self._cut = Tokenizer.from_str(self._whole.to_str())
        self._cut.enable_truncation(max_tokens)
        self.before, self.after = _around(self._whole)
        self.room = max_tokens - len(self.before) - len(self.after)
        if self.room < 1:
            raise DataError(f"{max_tokens} tokens have no room for words")

    @cached_property
    def _native(self) -> NativeWordPiece | None:
        return native_wordpiece(self._cut, lambda texts: encode_stock(self._cut, texts))

    def encode(self, texts: Sequence[Words]) -> EncodedRows:
        """One input a text, in order."""
        counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        firsts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        pieces = self._pieces([word for text in texts for word in text.words])
        windows = _Windows.of(pieces, firsts, self.room)
        return self._rows(pieces, firsts, windows)

    def _pieces(self, words: list[str]) -> Pieces:
        native = self._native_pieces(words) if self._native is not None else None
        ids, lengths = native if native is not None else self._stock_pieces(words)
        over = lengths > self.room
        if over.any():  # a word longer than a window: its beginning is what it is known by
            place = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            ids, lengths = ids[place < self.room], np.minimum(lengths, self.room)
        return Pieces(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def _native_pieces(self, words: list[str]) -> tuple[ndarray, ndarray] | None:
        if self._native is None or not words:
            return None
        rows = self._native.encode(words)
        lengths = rows.lengths - len(self.before) - len(self.after)
        place = np.arange(rows.total_tokens) - np.repeat(rows.starts[:-1], rows.lengths)
        last = len(self.before) + np.repeat(lengths, rows.lengths)
        return rows.ids[(place >= len(self.before)) & (place < last)], lengths

    def _stock_pieces(self, words: list[str]) -> tuple[ndarray, ndarray]:
        encoded = self._whole.encode_batch(
            [[word] for word in words], is_pretokenized=True, add_special_tokens=False
        )
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return flat([e.ids for e in encoded], int(lengths.sum())), lengths

    def _rows(
        self, pieces: Pieces, firsts: Int64[ndarray, " texts_plus_1"], windows: "_Windows"
    ) -> EncodedRows:
        begin, end = pieces.starts[windows.first], pieces.starts[windows.last]
        lengths = end - begin + len(self.before) + len(self.after)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.empty(int(starts[-1]), dtype=np.int32)
        for i, token in enumerate(self.before):
            ids[starts[:-1] + i] = token
        for i, token in enumerate(reversed(self.after), 1):
            ids[starts[1:] - i] = token
        within = _ranges(begin, end)
        shift = starts[:-1] + len(self.before) - begin
        ids[within + np.repeat(shift, end - begin)] = pieces.ids[within]
        return EncodedRows(
            ids,
            starts,
            readouts=self._readouts(pieces, firsts, windows),
            input_starts=windows.text_starts if len(windows.first) > len(firsts) - 1 else None,
        )

    def _readouts(
        self, pieces: Pieces, firsts: Int64[ndarray, " texts_plus_1"], windows: "_Windows"
    ) -> Ragged:
        words = _ranges(windows.read_from, windows.read_to)
        row = np.repeat(np.arange(len(windows.first)), windows.read_to - windows.read_from)
        there = pieces.starts[words] < pieces.starts[words + 1]
        words, row = words[there], row[there]
        place = pieces.starts[words] - pieces.starts[windows.first[row]] + len(self.before)
        text = np.searchsorted(windows.text_starts, row, side="right") - 1
        values = np.stack([place, words - firsts[text]], axis=1).astype(np.int32)
        counts = np.bincount(row, minlength=len(windows.first))
        return Ragged(values, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


@dataclass(frozen=True)
class _Windows:
    """Rows to be: words `first` to `last` of all texts' words, of which those from `read_from` to
    `read_to` are read out. Text `i` has rows `text_starts[i]` to `text_starts[i + 1]`."""

    first: Int64[ndarray, " rows"]
    last: Int64[ndarray, " rows"]
    read_from: Int64[ndarray, " rows"]
    read_to: Int64[ndarray, " rows"]
    text_starts: Int64[ndarray, " texts_plus_1"]

    @staticmethod
    def of(pieces: Pieces, firsts: Int64[ndarray, " texts_plus_1"], room: int) -> "_Windows":
        first, last = firsts[:-1], firsts[1:]
        if (pieces.starts[last] - pieces.starts[first] <= room).all():
            return _Windows(first, last, first, last, np.arange(len(firsts), dtype=np.int64))
        spans: list[tuple[int, int, int, int]] = []
        text_starts = [0]
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            spans += _cut(pieces.starts, a, b, room)
            text_starts.append(len(spans))
        columns = np.array(spans, dtype=np.int64).reshape(-1, 4)
        begin, end, read_from, read_to = columns.T
        return _Windows(begin, end, read_from, read_to, np.array(text_starts, dtype=np.int64))


def _cut(starts: ndarray, first: int, last: int, room: int) -> list[tuple[int, int, int, int]]:
    """One text's windows; the words that two share are read half in either."""
    windows, begin = [], first
    while True:
        fitting = int(np.searchsorted(starts, starts[begin] + room, side="right")) - 1
        end = min(max(fitting, begin + 1), last)
        windows.append((begin, end))
        if end >= last:
            break
        back = int(np.searchsorted(starts, starts[end] - room // _OVERLAP, side="left"))
        begin = min(max(back, begin + 1), end)
    middles = [(b[0] + a[1]) // 2 for a, b in zip(windows, windows[1:], strict=False)]
    reads = zip([first, *middles], [*middles, last], strict=True)
    return [(*window, *read) for window, read in zip(windows, reads, strict=True)]


def _ranges(begin: ndarray, end: ndarray) -> Int64[ndarray, " total"]:
    """begin[0] to end[0], then begin[1] to end[1], and so on."""
    sizes = end - begin
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(begin - before, sizes)  # type: ignore[no-any-return]


def _spaced(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that takes a word alone as it would in a text, with the space before it."""
    facts = json.loads(tokenizer.to_str())
    pre = facts.get("pre_tokenizer") or {}
    for part in (pre, *pre.get("pretokenizers", ())):
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(facts))


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that stand before and after a text."""
    inner = len(tokenizer.encode(["a"], is_pretokenized=True, add_special_tokens=False).ids)
    whole = tokenizer.encode(["a"], is_pretokenized=True)
    mask = whole.special_tokens_mask
    first = mask.index(0) if 0 in mask else len(mask)
    return whole.ids[:first], whole.ids[first + inner :]
