"""What every test runs under: no model hub, no telemetry, and a real browser where one is asked."""

import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from demand import missing
from miaotui.paths import CACHE_VARIABLE
from miaotui.quiet import silence_telemetry

silence_telemetry()

_BROWSERS = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is made for this host lies where the tests' other files do, and goes with them."""
    os.environ[CACHE_VARIABLE] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def browser() -> Path:
    """The program of a headless browser; run it with --headless=new --no-sandbox."""
    found = [path for name in _BROWSERS if (path := shutil.which(name)) is not None]
    if not found:
        missing("browser", "install the Debian package chromium (apt-get install chromium)")
    return Path(found[0])
