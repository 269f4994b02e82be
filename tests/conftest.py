"""What every test runs under: no model hub, no telemetry, and a real browser where one is asked."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from miaotui.quiet import silence_telemetry

silence_telemetry()

DEMANDED = frozenset(os.environ.get("MIAOTUI_DEMAND", "").replace(",", " ").split())
"""Things whose absence fails a test instead of skipping it, as "browser"."""

_BROWSERS = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")


def missing(thing: str, remedy: str) -> NoReturn:
    """Skips the test for want of `thing`, or fails it where MIAOTUI_DEMAND names it."""
    if thing in DEMANDED:
        pytest.fail(f"{thing} is demanded by MIAOTUI_DEMAND and missing: {remedy}", pytrace=False)
    pytest.skip(f"no {thing} here: {remedy}")


@pytest.fixture(scope="session")
def browser() -> Path:
    """The program of a headless browser; run it with --headless=new --no-sandbox."""
    for name in _BROWSERS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    missing("browser", "install the Debian package chromium (apt-get install chromium)")
