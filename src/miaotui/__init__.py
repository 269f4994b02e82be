"""miaotui (秒推): makes a fine-tuned transformer fast, proves it, and gives back a bundle."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from miaotui.version import __version__

if TYPE_CHECKING:
    from miaotui.bundle import load as load
    from miaotui.pipeline import optimize as optimize
    from miaotui.workers import Workers as Workers

__all__ = ["Workers", "__version__", "load", "optimize"]

_FROM = {"load": "bundle", "optimize": "pipeline", "Workers": "workers"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is first asked for: predicting needs no torch."""
    if name in _FROM:
        return getattr(import_module(f"miaotui.{_FROM[name]}"), name)
    raise AttributeError(f"module 'miaotui' has no attribute {name!r}")
