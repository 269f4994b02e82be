"""What a test does where something that it needs is not on this machine."""

import os
from typing import NoReturn

import pytest

from miaotui.engines import ENGINES
from miaotui.hardware import probe

DEMANDED = frozenset(os.environ.get("MIAOTUI_DEMAND", "").replace(",", " ").split())
"""Things whose absence fails a test instead of skipping it, as "browser"."""


def missing(thing: str, remedy: str) -> NoReturn:
    """Skips the test for want of `thing`, or fails it where MIAOTUI_DEMAND names it."""
    if thing in DEMANDED:
        pytest.fail(f"{thing} is demanded by MIAOTUI_DEMAND and missing: {remedy}", pytrace=False)
    pytest.skip(f"no {thing} here: {remedy}")


def need_engine(name: str) -> None:
    """Goes on where the engine runs here; skips, or fails where it is demanded, otherwise."""
    reason = ENGINES[name].unavailable(probe())
    if reason is not None:
        missing(name, reason)
