"""Parquet files, Arrow files and folders saved by `datasets`, read with pyarrow alone."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from miaotui.data.file_text import read_text
from miaotui.data.table import Table
from miaotui.errors import DataError

_ARROW_FILE_MAGIC = b"ARROW1"
_SHARD = re.compile(r"data-\d+-of-\d+\.arrow")
_STATE_FILE = "state.json"


def read_parquet(path: Path) -> Table:
    """One Parquet file; a damaged one is a DataError."""
    try:
        # Not read_table: that one takes folder names like "label=1" for further columns.
        return _table(path, pyarrow.parquet.ParquetFile(path).read())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {_one_line(error)}") from error


def read_arrow(path: Path) -> Table:
    """One Arrow file, in stream or file format."""
    return _table(path, _arrow(path))


def read_saved_dataset(folder: Path) -> Table:
    """A folder written by `Dataset.save_to_disk`; of several splits one must be pointed at."""
    splits = sorted(state.parent.name for state in folder.glob(f"*/{_STATE_FILE}"))
    if len(splits) > 1:
        choices = ", ".join(str(folder / split) for split in splits)
        raise DataError(f"{folder} holds several splits; point at one of them: {choices}")
    if splits:
        return read_saved_dataset(folder / splits[0])
    shards = [_arrow(path) for path in _shards(folder)]
    try:
        return _table(folder, pa.concat_tables(shards))
    except pa.ArrowException as error:
        raise DataError(f"{folder}: its Arrow files do not fit together: {_one_line(error)}") from (
            error
        )


def _shards(folder: Path) -> list[Path]:
    if (folder / _STATE_FILE).exists():
        return [folder / name for name in _listed_shards(folder / _STATE_FILE)]
    shards = sorted(folder.glob("*.arrow"))
    if not shards:
        raise DataError(
            f"{folder} holds no Arrow files; give a file, or a folder saved by datasets "
            "(Dataset.save_to_disk)"
        )
    if len(shards) > 1 and not all(_SHARD.fullmatch(path.name) for path in shards):
        # A download cache: its files are different splits, which must never be joined.
        choices = ", ".join(str(path) for path in shards)
        raise DataError(f"{folder} holds several Arrow files; point at one of them: {choices}")
    return shards


def _listed_shards(state_file: Path) -> list[str]:
    try:
        names = [
            str(entry["filename"])
            for entry in json.loads(read_text(state_file).text)["_data_files"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{state_file} does not list the data files; save the dataset again with save_to_disk"
        ) from error
    if not names:
        raise DataError(f"{state_file.parent} has no rows; give a dataset with at least one")
    return names


def _arrow(path: Path) -> pa.Table:
    try:
        with path.open("rb") as file:
            is_file_format = file.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
        source = pa.memory_map(str(path))
        opened = pa.ipc.open_file if is_file_format else pa.ipc.open_stream
        return opened(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Arrow file: {_one_line(error)}") from error


def _table(path: Path, table: pa.Table) -> Table:
    names = tuple(str(name) for name in table.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are named {twice[0]!r}; rename one of them")
    return Table(
        names,
        lambda name: table.column(name).to_pylist(),
        class_names=_class_names(table.schema.metadata or {}),
    )


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names that `datasets` stores for ClassLabel columns, also inside a list column."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}  # not written by datasets: the indices have no names
    if not isinstance(features, dict):
        return {}
    named = {column: _names_of(feature) for column, feature in features.items()}
    return {column: names for column, names in named.items() if names}


def _names_of(feature: object) -> tuple[str, ...]:
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(str(name) for name in feature.get("names") or ())
    return _names_of(feature.get("feature"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
