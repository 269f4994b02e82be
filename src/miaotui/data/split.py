"""Training, validation, selection and test: who may see which row.

Equal texts never part: what the search trains on or chooses by, the test has never seen.
"""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from miaotui.data.inputs import Text
from miaotui.data.label_cells import Label
from miaotui.data.rows import Rows
from miaotui.errors import DataError

SPLIT_NAMES = ("test", "selection", "validation", "train")
_PAIR_SEPARATOR = "\x1f"
_HASH_CHARACTERS = 16
_REGRESSION_BINS = 10


@dataclass(frozen=True)
class Fractions:
    """Shares of the distinct texts; `validation` is a share of what is left for training."""

    test: float = 0.18
    selection: float = 0.09
    validation: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.test, self.selection, self.validation)
        if min(shares) < 0 or self.validation >= 1 or self.test + self.selection >= 1:
            raise DataError(
                f"fractions {shares} leave no training rows; expected test + selection < 1, "
                "validation < 1 and none below 0"
            )


DEFAULT_FRACTIONS = Fractions()


@dataclass(frozen=True)
class Splits:
    """Row indices in ascending order; no row is in two of them, none is left out.

    `unknown` counts the rows that saved splits did not know and that were split anew.
    """

    train: Int64[ndarray, " train"]
    validation: Int64[ndarray, " validation"]
    selection: Int64[ndarray, " selection"]
    test: Int64[ndarray, " test"]
    seed: int
    unknown: int = 0


@dataclass(frozen=True)
class DataSplits:
    """The rows of the four splits; no text is in two of them.

    The counts say what was dropped: rows of the main file equal to a selection or test row of a
    separate file, and rows of a separate file equal to a test row or seen in an earlier training.
    """

    train: Rows
    validation: Rows
    selection: Rows
    test: Rows
    seed: int
    fractions: Fractions = DEFAULT_FRACTIONS
    unknown: int = 0
    dropped_main: int = 0
    dropped_selection: int = 0
    dropped_test: int = 0

    @property
    def held_out_hashes(self) -> frozenset[str]:
        """Hashes of the selection and test rows, which no training may see."""
        return row_hashes(self.selection) | row_hashes(self.test)


def normalise(text: Text) -> str:
    """What makes two texts equal: NFKC, case folded, white space collapsed."""
    if isinstance(text, tuple):
        return _PAIR_SEPARATOR.join(normalise(part) for part in text)
    folded = unicodedata.normalize("NFKC", str(text)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def row_hash(text: Text) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the normalised text."""
    return _hash(normalise(text))


def row_hashes(rows: Rows) -> frozenset[str]:
    """The hashes of the distinct texts."""
    return frozenset(row_hash(text) for text in rows.texts)


def split_rows(
    rows: Rows,
    labels: Sequence[Label] | None,
    seed: int,
    fractions: Fractions = DEFAULT_FRACTIONS,
) -> Splits:
    """Splits by normalised text and seed, whatever the order of the rows, stratified by `labels`.

    Every distinct text gets the key sha256(seed | hash). Within a stratum (a label, a set of
    labels, a tenth of the values) texts are ordered by key, and the text at rank r of n stands at
    (r + key / 2^64) / n, between 0 and 1. All texts, ordered by that position, are cut where the
    shares end: so each stratum is cut in the same proportions, the totals are exact to one text,
    and a stratum of a single text falls where its key says, as it would without stratification.
    Equal texts with different labels belong to the stratum that sorts first among theirs.
    `labels` None means no strata.
    """
    hashes = [row_hash(text) for text in rows.texts]
    assigned = _assign(_stratum_of(hashes, labels), seed, fractions)
    return _splits([assigned[row] for row in hashes], seed)


def split_known(
    rows: Rows, known: Mapping[str, str], seed: int, fractions: Fractions = DEFAULT_FRACTIONS
) -> Splits:
    """As `split_rows`, but a row whose hash is in `known` goes to the split named there."""
    hashes = [row_hash(text) for text in rows.texts]
    new = [i for i, row in enumerate(hashes) if row not in known]
    labels = None if rows.labels is None else [rows.labels[i] for i in new]
    assigned = _assign(_stratum_of([hashes[i] for i in new], labels), seed, fractions)
    names = [known[row] if row in known else assigned[row] for row in hashes]
    return _splits(names, seed, unknown=len(new))


def _splits(names: Sequence[str], seed: int, unknown: int = 0) -> Splits:
    by_row = np.array(names, dtype=object)
    indices = {name: np.flatnonzero(by_row == name).astype(np.int64) for name in SPLIT_NAMES}
    return Splits(**indices, seed=seed, unknown=unknown)


def _stratum_of(hashes: Sequence[str], labels: Sequence[Label] | None) -> dict[str, str]:
    strata = _strata(labels) if labels is not None else [""] * len(hashes)
    stratum_of: dict[str, str] = {}
    for row, stratum in zip(hashes, strata, strict=True):
        stratum_of[row] = min(stratum, stratum_of.get(row, stratum))
    return stratum_of


def _strata(labels: Sequence[Label]) -> list[str]:
    if labels and isinstance(labels[0], float):
        values = np.asarray(labels, dtype=np.float64)
        edges = np.quantile(values, np.arange(1, _REGRESSION_BINS) / _REGRESSION_BINS)
        return [str(bin_) for bin_ in np.searchsorted(edges, values, side="right")]
    return [_stratum(label) for label in labels]


def _stratum(label: Label) -> str:
    return repr(sorted(set(label), key=str)) if isinstance(label, tuple) else str(label)


def _assign(stratum_of: Mapping[str, str], seed: int, fractions: Fractions) -> dict[str, str]:
    """The split of every distinct text."""
    position = _positions(stratum_of, seed)
    ordered = sorted(position, key=lambda row: (position[row], row))
    left = 1 - fractions.test - fractions.selection
    shares = (fractions.test, fractions.selection, left * fractions.validation)
    cuts = [int(np.floor(len(ordered) * end + 0.5)) for end in np.cumsum(shares)]
    starts, ends = (0, *cuts), (*cuts, len(ordered))
    return {
        row: name
        for name, start, end in zip(SPLIT_NAMES, starts, ends, strict=True)
        for row in ordered[start:end]
    }


def _positions(stratum_of: Mapping[str, str], seed: int) -> dict[str, float]:
    members: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row, stratum in stratum_of.items():
        members[stratum].append((int(_hash(f"{seed}|{row}"), 16), row))
    return {
        row: (rank + key / 16**_HASH_CHARACTERS) / len(keys)
        for keys in members.values()
        for rank, (key, row) in enumerate(sorted(keys))
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]
