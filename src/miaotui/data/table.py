"""Named columns of cells, whatever file they came from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miaotui.errors import DataError


@dataclass(frozen=True)
class Table:
    """Named columns of cells. `typed` is False where every cell is a string, as in CSV.

    `class_names` holds, for a column of class indices, the name of each index.
    """

    names: tuple[str, ...]
    column: Callable[[str], Sequence[object]]
    typed: bool = True
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_utf8(path: Path) -> str:
    """The text of a file, without its byte order mark; other encodings are a DataError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start}); convert it with: "
            f"iconv -f ENCODING -t UTF-8 {path.name} (ENCODING is GB18030 or UTF-16, for example)"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
