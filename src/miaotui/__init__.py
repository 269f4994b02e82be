"""miaotui (秒推): makes a fine-tuned transformer fast, proves it, and gives back a bundle."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from miaotui.bundle import load as load
    from miaotui.pipeline import optimize as optimize

__all__ = ["__version__", "load", "optimize"]


def __getattr__(name: str) -> Any:
    """Imports `load` and `optimize` when they are first asked for: predicting needs no torch."""
    if name == "load":
        from miaotui.bundle import load

        return load
    if name == "optimize":
        from miaotui.pipeline import optimize

        return optimize
    raise AttributeError(f"module 'miaotui' has no attribute {name!r}")
