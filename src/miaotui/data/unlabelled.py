"""Texts without labels, to distil from, free of the rows that judge."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from miaotui.data.inputs import Text
from miaotui.data.split import row_hash


@dataclass(frozen=True)
class Unlabelled:
    """Distinct texts, and how many were dropped: equal to a held-out row, or met before."""

    texts: tuple[Text, ...]
    dropped_equal: int
    dropped_duplicates: int

    def __len__(self) -> int:
        return len(self.texts)


def distinct(texts: Sequence[Text], held_out_hashes: Set[str]) -> Unlabelled:
    """The texts that no split holds out, each once.

    `held_out_hashes` are those of the selection and test rows (`DataSplits.held_out_hashes`).
    The first of equal texts is kept, in the order of the file.
    """
    allowed = [(row_hash(text), text) for text in texts]
    allowed = [(row, text) for row, text in allowed if row not in held_out_hashes]
    first_of: dict[str, Text] = {}
    for row, text in allowed:
        first_of.setdefault(row, text)
    return Unlabelled(
        tuple(first_of.values()), len(texts) - len(allowed), len(allowed) - len(first_of)
    )
