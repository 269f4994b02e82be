"""What workers do with children that misbehave; the children here are a few lines of Python."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miaotui.errors import BudgetError, BundleError, EngineFailed
from miaotui.workers import Workers

CHILD = """
import json, os, sys, time
if {broken!r}:
    print(json.dumps({{"error": "it is damaged", "kind": "BundleError"}}), flush=True)
    sys.exit()
if {silent!r}:
    sys.exit(3)
print(json.dumps({{"warnings": ["made elsewhere"], "task": "text-classification"}}), flush=True)
for line in sys.stdin:
    texts = json.loads(line)
    if "hang" in texts:
        time.sleep(60)
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


class Scripted(Workers):
    """Its children run the script in their bundle's folder."""

    command = (sys.executable, "-c", "import runpy, sys; runpy.run_path(sys.argv[1] + '/child.py')")


@pytest.fixture
def child(tmp_path: Path) -> Path:
    return _child(tmp_path)


def _child(folder: Path, broken: bool = False, silent: bool = False) -> Path:
    script = CHILD.format(broken=broken, silent=silent)
    (folder / "child.py").write_text(script, encoding="utf-8")
    return folder


def test_order_and_warnings(child: Path) -> None:
    texts = [str(i) for i in range(1000)]
    with Scripted(child, 1) as pool:
        assert pool.warnings == ("made elsewhere",)
        assert [answer.label for answer in pool.stream(texts, rows=9)] == texts
        assert pool(["a", "b\u00e9\n"])[1].labels == ("b\u00e9\n",)
        assert pool([]) == []


def test_drift_is_that_of_all_processes(child: Path) -> None:
    with Scripted(child, 1) as pool:
        assert pool.drift() is None
        pool(["a"] * 500)
        found = pool.drift()
    assert found is not None
    assert (found.rows, found.observed, found.shifted) == (500, pytest.approx(0.9), True)


def test_a_text_that_ends_every_process_is_named_and_the_others_go_on(child: Path) -> None:
    with Scripted(child, 1) as pool:
        with pytest.raises(EngineFailed, match=r"the text 'poison' ended 3 .*SIGABRT"):
            pool(["before", "poison", "after"])
        assert pool(["fine"])[0].label == "fine"


def test_a_process_that_does_not_start_again_is_tried_again_later(child: Path) -> None:
    script = child / "child.py"
    whole = script.read_text(encoding="utf-8")
    with Scripted(child, 1) as pool:
        script.write_text("raise SystemExit(5)", encoding="utf-8")
        for _ in range(2):
            with pytest.raises(EngineFailed, match="before it was ready: exit status 5"):
                pool(["poison"])
        script.write_text(whole, encoding="utf-8")
        assert pool(["fine"])[0].label == "fine"


def test_an_error_kills_even_a_process_that_hangs(child: Path) -> None:
    def fails_while_waiting() -> None:
        with Scripted(child, 1) as pool:
            stream = pool.stream(["a"] * 5 + ["hang"], rows=5)
            assert next(stream).label == "a"
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fails_while_waiting()
    assert time.monotonic() - began < 20


def test_an_abandoned_stream_leaves_the_rest_unanswered(child: Path) -> None:
    asked: list[str] = []

    def texts() -> Iterator[str]:
        for i in range(1000):
            asked.append(str(i))
            yield asked[-1]

    with Scripted(child, 1) as pool:
        stream = pool.stream(texts(), rows=10)
        assert next(stream).label == "0"
        stream.close()  # type: ignore[attr-defined]
        assert len(asked) <= 30
        assert pool(["fine"])[0].label == "fine"


def test_what_is_no_stream_is_refused(child: Path) -> None:
    with Scripted(child, 1) as pool:
        with pytest.raises(TypeError, match="put it into a list"):
            pool.stream("text")
        with pytest.raises(BudgetError, match="give 1 or more"):
            pool.stream(["text"], rows=0)
    with pytest.raises(EngineFailed, match="are closed"):
        pool(["text"])


def test_an_error_of_a_child_is_raised_here(child: Path) -> None:
    with Scripted(child, 1) as pool:
        with pytest.raises(EngineFailed, match="no such text"):
            pool(["wrong"])
        assert pool(["fine"])[0].label == "fine"


def test_a_bundle_that_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it is damaged"):
        Scripted(_child(tmp_path, broken=True), 1)
    with pytest.raises(EngineFailed, match="before it was ready: exit status 3"):
        Scripted(_child(tmp_path, silent=True), 1)


def test_more_workers_than_cores_are_refused(child: Path) -> None:
    with pytest.raises(BudgetError, match="choose from 1 to"):
        Scripted(child, 10_000)
    with pytest.raises(BudgetError, match="choose from 1 to 1"):
        Scripted(child, 2, cores=1)
    with pytest.raises(TypeError, match="put it into a list"), Scripted(child, 1) as pool:
        pool("one text")  # type: ignore[arg-type]
