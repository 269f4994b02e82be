"""A hub id where there is no network: a cache made on the spot, in processes of their own, since
the hub's library reads its settings when it is imported."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny import save_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFLINE = {"HF_HUB_OFFLINE": "1"}
UNREACHABLE = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
FIND = """
import sys
from miaotui.errors import ModelError
from miaotui.models.load import find_model, load_model
try:
    source = find_model(*sys.argv[1:])
    print(load_model(source).family, source.revision)
except ModelError as error:
    print("refused:", error)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out as the hub's library lays it out: `org/whole`, and `org/part` without weights."""
    folder = tmp_path_factory.mktemp("hub")
    model = save_tiny("bert", folder / "model")
    for name, wanted in (("whole", "*"), ("part", "config.json")):
        repository = folder / "cache" / f"models--org--{name}"
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
        (repository / "blobs").mkdir()
        for path in model.glob(wanted):
            blob = repository / "blobs" / path.name
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return folder / "cache"


def found(cache: Path, variables: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FIND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_CACHE": str(cache)} | variables,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("variables", [OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
def test_what_is_in_the_cache_is_used(cache: Path, variables: dict[str, str]) -> None:
    assert found(cache, variables, "org/whole") == f"bert {COMMIT}"


def test_a_commit_in_the_cache_is_used(cache: Path) -> None:
    assert found(cache, OFFLINE, "org/whole", COMMIT) == f"bert {COMMIT}"


@pytest.mark.parametrize("variables", [OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
def test_what_is_not_is_refused_in_one_line(cache: Path, variables: dict[str, str]) -> None:
    (line,) = found(cache, variables, "org/other").splitlines()

    assert line.startswith("refused: org/other is not a folder and not whole in the hub's cache")
    assert str(cache) in line
    assert "HF_HUB_OFFLINE" in line


def test_another_revision_is_refused_by_name(cache: Path) -> None:
    (line,) = found(cache, OFFLINE, "org/whole", "v2").splitlines()

    assert line.startswith("refused: org/whole at revision v2 is not")


def test_a_download_that_was_cut_short_is_told(cache: Path) -> None:
    (line,) = found(cache, OFFLINE, "org/part").splitlines()

    assert line.startswith("refused: org/part has no weights in safetensors in the hub's cache")


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    def do_CONNECT(self) -> None:  # noqa: N802  (the library's name)
        self.send_error(403, "Forbidden")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_proxy_that_refuses_is_as_no_network(cache: Path, proxy: str) -> None:
    variables = {"HF_HUB_OFFLINE": "0", "HTTPS_PROXY": proxy}

    assert found(cache, variables, "org/whole") == f"bert {COMMIT}"
    (line,) = found(cache, variables, "org/other").splitlines()
    assert "cannot be reached" in line
