"""Files to columns of cells, by their extension."""

from collections.abc import Callable
from pathlib import Path

from miaotui.data.file_text import COMPRESSIONS, file_kind
from miaotui.data.table import Table
from miaotui.data.text_files import TEXT_READERS, read_plain_text
from miaotui.errors import DataError, LabelsMissing

FORMATS = (
    ".csv, .tsv, .jsonl, .ndjson, .json (also .gz or .zst), .parquet, .arrow or a folder saved by "
    "datasets"
)


def read_table(path: Path, plain_text: bool = False) -> Table:
    """Reads a file by its extension, or a folder by its content.

    `plain_text` also allows `.txt`, one text per line. What cannot be read is a DataError.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a file ({FORMATS})")
    if path.is_dir():
        from miaotui.data import arrow_files  # pyarrow costs start-up time; CSV does not need it

        return arrow_files.read_saved_dataset(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); give a file with rows")
    return _reader(path, plain_text)(path)


def _reader(path: Path, plain_text: bool) -> Callable[[Path], Table]:
    extension = file_kind(path)
    if path.suffix.lower() in COMPRESSIONS and extension not in (".txt", *TEXT_READERS):
        raise DataError(f"{path}: only text files are read compressed; unpack it first")
    if extension in (".parquet", ".arrow"):
        from miaotui.data import arrow_files

        return arrow_files.read_parquet if extension == ".parquet" else arrow_files.read_arrow
    if extension == ".txt" and not plain_text:
        raise LabelsMissing(f"{path}: a .txt file has no labels; give {FORMATS}")
    if extension == ".txt":
        return read_plain_text
    if extension not in TEXT_READERS:
        allowed = f".txt, {FORMATS}" if plain_text else FORMATS
        raise DataError(f"{path}: unknown extension {extension!r}; expected {allowed}")
    return TEXT_READERS[extension]
