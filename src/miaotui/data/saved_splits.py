"""`splits.json`: which rows a model was trained on, as hashes, so that no later run forgets."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from miaotui.data.rows import Rows
from miaotui.data.split import (
    SPLIT_NAMES,
    DataSplits,
    Fractions,
    Splits,
    row_hashes,
    split_known,
)
from miaotui.errors import DataError, OutputError
from miaotui.paths import write_whole

SPLITS_FILE = "splits.json"
_FORMAT = 1


@dataclass(frozen=True)
class SavedSplits:
    """The hashes of the distinct texts of each split, and what they were cut with.

    `num_rows` counts the rows of each split, equal ones included.
    """

    seed: int
    fractions: Fractions
    hashes: Mapping[str, frozenset[str]]
    num_rows: Mapping[str, int]

    @property
    def trained_on(self) -> frozenset[str]:
        """Hashes of the texts that training or early stopping has seen."""
        return self.hashes["train"] | self.hashes["validation"]

    @property
    def split_of(self) -> dict[str, str]:
        """The split of every known hash."""
        return {row: name for name in SPLIT_NAMES for row in self.hashes[name]}


def save_splits(folder: Path, splits: DataSplits) -> Path:
    """Writes `splits.json` (seed, counts and row hashes; no text) into `folder`, atomically."""
    rows_of = {name: _rows(splits, name) for name in SPLIT_NAMES}
    facts = {
        "format": _FORMAT,
        "seed": splits.seed,
        "fractions": asdict(splits.fractions),
        "num_rows": {name: len(rows) for name, rows in rows_of.items()},
        "hashes": {name: sorted(row_hashes(rows)) for name, rows in rows_of.items()},
    }
    path = folder / SPLITS_FILE
    try:
        write_whole(path, json.dumps(facts, indent=1))
        return path
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); give a folder that exists and is yours"
        ) from error


def load_splits(folder: Path) -> SavedSplits | None:
    """Reads `splits.json`; None where the folder has none. A damaged one is a DataError."""
    path = folder / SPLITS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it or delete it") from error
    try:
        return _saved_splits(json.loads(text))
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise DataError(
            f"{path} is not a description of splits ({error!r}); restore it, or delete it and "
            "the splits are made anew"
        ) from error


def apply_saved(rows: Rows, saved: SavedSplits, fractions: Fractions | None = None) -> Splits:
    """Puts every known row where it was; unknown ones are split by the saved seed, and counted.

    `fractions` other than the saved ones apply to the unknown rows alone.
    """
    return split_known(rows, saved.split_of, saved.seed, fractions or saved.fractions)


def _rows(splits: DataSplits, name: str) -> Rows:
    rows: Rows = getattr(splits, name)
    return rows


def _saved_splits(facts: Mapping[str, object]) -> SavedSplits:
    if facts["format"] != _FORMAT:
        raise ValueError(f"format {facts['format']!r}, expected {_FORMAT}")
    hashes, num_rows, fractions = facts["hashes"], facts["num_rows"], facts["fractions"]
    if not (
        isinstance(hashes, dict) and isinstance(num_rows, dict) and isinstance(fractions, dict)
    ):
        raise TypeError("hashes, num_rows and fractions must be objects")
    return SavedSplits(
        seed=int(str(facts["seed"])),
        fractions=Fractions(**{name: float(share) for name, share in fractions.items()}),
        hashes={name: frozenset(map(str, hashes[name])) for name in SPLIT_NAMES},
        num_rows={name: int(num_rows[name]) for name in SPLIT_NAMES},
    )
