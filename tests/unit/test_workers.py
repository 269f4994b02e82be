"""What workers do with children that misbehave; the children here are a few lines of Python."""

import sys
from pathlib import Path

import pytest

from miaotui import workers
from miaotui.errors import BudgetError, BundleError, EngineFailed
from miaotui.workers import Workers

CHILD = """
import json, os, sys
if {broken!r}:
    print(json.dumps({{"error": "it is damaged", "kind": "BundleError"}}), flush=True)
    sys.exit()
if {silent!r}:
    sys.exit(3)
print(json.dumps({{"warnings": ["made elsewhere"]}}), flush=True)
for line in sys.stdin:
    texts = json.loads(line)
    if "poison" in texts:
        os.abort()
    if "wrong" in texts:
        print(json.dumps({{"error": "no such text", "kind": "EngineFailed"}}), flush=True)
        continue
    answers = [dict(label=t, score=1.0, scores={{t: 1.0}}, labels=[t], truncated=False)
               for t in texts]
    drift = dict(expected=0.5, test_rows=1000, observed=0.9, rows=len(texts), shifted=True)
    print(json.dumps({{"answers": answers, "drift": drift}}), flush=True)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return _child(tmp_path, monkeypatch)


def _child(
    folder: Path, monkeypatch: pytest.MonkeyPatch, broken: bool = False, silent: bool = False
) -> Path:
    script = folder / "child.py"
    script.write_text(CHILD.format(broken=broken, silent=silent), encoding="utf-8")
    monkeypatch.setattr(workers, "_CHILD", (sys.executable, str(script)))
    return folder


def test_order_and_warnings(child: Path) -> None:
    texts = [str(i) for i in range(1000)]
    with Workers(child, 1) as pool:
        assert pool.warnings == ("made elsewhere",)
        assert [answer.label for answer in pool.stream(texts, rows=9)] == texts
        assert pool(["a", "b\udc80\n"])[1].labels == ("b\udc80\n",)
        assert pool([]) == []


def test_drift_is_that_of_all_processes(child: Path) -> None:
    with Workers(child, 1) as pool:
        assert pool.drift() is None
        pool(["a"] * 500)
        found = pool.drift()
    assert found is not None
    assert (found.rows, found.observed, found.shifted) == (500, pytest.approx(0.9), True)


def test_texts_that_end_every_process_are_an_error_and_the_others_go_on(child: Path) -> None:
    with Workers(child, 1) as pool:
        with pytest.raises(EngineFailed, match=r"'poison'.*SIGABRT"):
            pool(["poison"])
        assert pool(["fine"])[0].label == "fine"


def test_an_error_of_a_child_is_raised_here(child: Path) -> None:
    with Workers(child, 1) as pool:
        with pytest.raises(EngineFailed, match="no such text"):
            pool(["wrong"])
        assert pool(["fine"])[0].label == "fine"


def test_a_bundle_that_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="it is damaged"):
        Workers(_child(tmp_path, monkeypatch, broken=True), 1)
    with pytest.raises(EngineFailed, match="before it was ready: exit status 3"):
        Workers(_child(tmp_path, monkeypatch, silent=True), 1)


def test_more_workers_than_cores_are_refused(child: Path) -> None:
    with pytest.raises(BudgetError, match="choose from 1 to"):
        Workers(child, 10_000)
    with pytest.raises(BudgetError, match="choose from 1 to 1"):
        Workers(child, 2, cores=1)
    with pytest.raises(TypeError, match="list of texts"), Workers(child, 1) as pool:
        pool("one text")  # type: ignore[arg-type]
