"""WordPiece of BERT's kind by native code, where it gives the very ids of the stock tokenizer:
texts, and pairs of texts.

The stock tokenizer stays the authority: what its normalizer and pre-tokenizer make of a code point
is asked of it, one code point at a time, when that is first met; texts with anything whose meaning
hangs on its neighbours (special tokens, marks that can be reordered) are given to it whole.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from miaotui.tasks.base import EncodedRows, Text, joined

_CHARACTER, _WORD, _SPACE = range(3)
_MOST_POINTS = 50_000
"""Code points kept in memory; the thousands that a language has, and room."""
_PROBES = (
    "",
    "A warm, funny film!",
    "don't   stop\tnow\r\n",
    "Straße ÉCOLE naïve Ångström ﬁne İstanbul ΣΊΣΥΦΟΣ",
    "这部电影很好看。1,000元",
    "ひらがな カタカナ 한국어 한국어",
    "🙂 a\u200bb\u00adc\u0000d\ufffd e\u0301",
    "x" * 101 + " " + "y" * 100,
    "[CLS] [MASK] [cls] ##ing",
)

StockModel = Callable[[Sequence[Text]], EncodedRows]


class NativeWordPiece:
    """Encodes texts and, if `reads_pairs`, pairs; what it leaves over goes to `stock`."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any], stock: StockModel) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._stock = stock
        self._start_over()

    @cached_property
    def reads_texts(self) -> bool:
        """Whether texts get the stock tokenizer's ids."""
        return self._same([*_PROBES, self._too_long])

    @cached_property
    def reads_pairs(self) -> bool:
        """Whether pairs do; looked at when the first pair comes."""
        long, others = self._too_long, [*_PROBES[1:], _PROBES[0]]
        pairs: list[Text] = [*zip(_PROBES, others, strict=True)]
        pairs += [(long, "a film"), ("film", long), (long, long)]
        return bool(self._settings["between"]) and self._same(pairs)

    @property
    def _too_long(self) -> str:
        return "word " * (int(self._settings["most_tokens"]) + 8)

    def _same(self, probes: Sequence[Text]) -> bool:
        return self.encode(probes).equals(self._stock(probes))

    def _start_over(self) -> None:
        import miaotui_native

        self._pieces = miaotui_native.WordPiece(**self._settings)
        self._known = 0

    def encode(self, texts: Sequence[Text]) -> EncodedRows:
        """Texts, or pairs, but not some of each."""
        try:
            if texts and isinstance(texts[0], tuple):
                encoded = self._pieces.encode_pairs(*zip(*texts, strict=True))
            else:
                encoded = self._pieces.encode(texts)
        except TypeError:  # not UTF-8, or no text: the stock tokenizer says what is wrong with it
            return self._stock(texts)
        ids, types, lengths, truncated, left_over, unknown = encoded
        if len(unknown):
            self._learn(set(unknown.tolist()))
            return self.encode(texts)  # more is unknown only where all was forgotten
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = EncodedRows(
            ids,
            starts,
            types if types.any() else None,
            truncated.astype(bool) if truncated.any() else None,
        )
        if not len(left_over):
            return rows
        order = np.arange(len(texts))
        order[left_over] = len(texts) + np.arange(len(left_over))
        rest = self._stock([texts[i] for i in left_over.tolist()])
        return joined([rows, rest]).select(order)

    def _learn(self, points: set[int]) -> None:
        if self._known and self._known + len(points) > _MOST_POINTS:
            self._start_over()
            return
        self._known += len(points)
        for point in points:
            self._pieces.learn(point, _pieces_of(self._tokenizer, point))


def native_wordpiece(tokenizer: Tokenizer, stock: StockModel) -> NativeWordPiece | None:
    """None where the kernels are not installed, or the tokenizer is of another kind."""
    settings = _settings(tokenizer) if find_spec("miaotui_native") else None
    if settings is None:
        return None
    native = NativeWordPiece(tokenizer, settings, stock)
    return native if native.reads_texts else None


def _settings(tokenizer: Tokenizer) -> dict[str, Any] | None:
    facts = json.loads(tokenizer.to_str())
    model, cut = facts["model"], facts.get("truncation")
    added = facts.get("added_tokens") or []
    kinds = [(facts.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
    if model["type"] != "WordPiece" or kinds != ["BertNormalizer", "BertPreTokenizer"]:
        return None
    if cut is None or cut["stride"] or cut["direction"] != "Right" or facts.get("padding"):
        return None
    if any(token["normalized"] or not token["content"] for token in added):
        return None
    around = _special_ids(tokenizer)
    vocabulary: dict[str, int] = model["vocab"]
    if around is None or model["unk_token"] not in vocabulary:
        return None
    between, second_type = _between(tokenizer, *around)
    if len(around[0] + between + around[1]) > cut["max_length"]:
        return None
    prefix = model["continuing_subword_prefix"]
    return {
        "starts": list(vocabulary.items()),
        "continued": [
            (piece[len(prefix) :], number)
            for piece, number in vocabulary.items()
            if piece.startswith(prefix) and piece != prefix
        ],
        "unknown": vocabulary[model["unk_token"]],
        "most_characters": model["max_input_chars_per_word"],
        "before": around[0],
        "after": around[1],
        "between": between,
        "second_type": second_type,
        "specials": [token["content"] for token in added],
        "most_tokens": cut["max_length"],
    }


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]] | None:
    """The ids that stand before and after a text; None where they do not, or have types."""
    whole, inner = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=False).ids
    mask = whole.special_tokens_mask
    if 0 not in mask or any(whole.type_ids):
        return None
    first = mask.index(0)
    if whole.ids[first : first + len(inner)] != inner:
        return None
    return whole.ids[:first], whole.ids[first + len(inner) :]


def _between(tokenizer: Tokenizer, before: list[int], after: list[int]) -> tuple[list[int], int]:
    """The ids between the texts of a pair, and the type of what follows them; no ids where pairs
    are built in another way."""
    first, second = (tokenizer.encode(t, add_special_tokens=False).ids for t in ("a", "b"))
    whole = tokenizer.encode("a", "b")
    start, end = before + first, second + after
    between = whole.ids[len(start) : len(whole.ids) - len(end)]
    types = [0] * len(start + between) + [whole.type_ids[-1]] * len(end)
    as_expected = whole.ids == start + between + end and whole.type_ids == types
    return (between, types[-1]) if as_expected else ([], 0)


def _pieces_of(tokenizer: Tokenizer, point: int) -> list[tuple[int, str]] | None:
    """What a code point becomes; None where that hangs on its neighbours."""
    if point > 0x10FFFF:
        return None
    pieces = []
    for character in tokenizer.normalizer.normalize_str(chr(point)):
        parts = [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(f"a{character}b")]
        roles = {
            (f"a{character}b",): _CHARACTER,
            ("a", character, "b"): _WORD,
            ("a", "b"): _SPACE,
        }
        role = roles.get(tuple(parts))
        if role is None or unicodedata.combining(character):
            return None
        pieces.append((role, character))
    return pieces
