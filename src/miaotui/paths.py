"""Where what belongs to this host and user lies: nothing in there is ever part of a bundle."""

import os
from pathlib import Path

CACHE_VARIABLE = "MIAOTUI_CACHE"


def cache_folder(name: str) -> Path:
    """A folder for what can be made again: in $MIAOTUI_CACHE, else the system's place."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given) / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "miaotui" / name
