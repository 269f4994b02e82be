"""What the stock tokenizer makes of texts, as rows."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from tokenizers import Tokenizer

from miaotui.tasks.base import EncodedRows, Text

_AT_ONCE = 4096


def encode_stock(tokenizer: Tokenizer, texts: Sequence[Text]) -> EncodedRows:
    """Texts or pairs, as the tokenizer is set to truncate."""
    encodings = [
        encoding
        for first in range(0, len(texts), _AT_ONCE)
        for encoding in tokenizer.encode_batch_fast(list(texts[first : first + _AT_ONCE]))
    ]
    lengths = np.fromiter((len(e) for e in encodings), dtype=np.int64, count=len(encodings))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = flat([e.ids for e in encodings], int(starts[-1]))
    truncated = np.fromiter((bool(e.overflowing) for e in encodings), bool, len(encodings))
    pairs = any(isinstance(text, tuple) for text in texts)
    types = flat([e.type_ids for e in encodings], int(starts[-1])) if pairs else None
    return EncodedRows(
        ids,
        starts,
        types if types is not None and types.any() else None,
        truncated if truncated.any() else None,
    )


def flat(rows: Sequence[Sequence[int]], total: int) -> ndarray:
    """int32 [total]: all values of all rows, in order."""
    return np.fromiter((value for row in rows for value in row), dtype=np.int32, count=total)
