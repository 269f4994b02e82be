"""Files that are whole or not there, and where what belongs to this host and user lies."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "MIAOTUI_CACHE"


def cache_folder(name: str) -> Path:
    """A folder for what can be made again: in $MIAOTUI_CACHE, else the system's place."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given) / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "miaotui" / name


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which becomes `path` at once when the block ends well.
    Otherwise `path` is as it was."""
    draft = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file (text as UTF-8) whole or not at all."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with whole_file(path) as draft:
        draft.write_bytes(data)
