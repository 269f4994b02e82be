"""What we change of the caller's process is put back, also after an error."""

import logging
import os
import random
import threading
import warnings

import numpy as np
import pytest
import torch

from miaotui.process import process_as_found

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="two cores are needed to leave one out",
)


def harm() -> None:
    os.environ["MIAOTUI_TEST_NEW"] = "1"
    os.environ["MIAOTUI_TEST_OLD"] = "changed"
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1 if torch.get_num_threads() > 1 else 2)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002


def state() -> tuple[object, ...]:
    return (
        dict(os.environ),
        list(warnings.filters),
        logging.getLogger().level,
        logging.getLogger().manager.disable,
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )


@pytest.mark.parametrize("fails", [False, True], ids=["well", "error"])
def test_everything_is_put_back(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setenv("MIAOTUI_TEST_OLD", "as it was")
    before = state()

    @process_as_found()
    def work() -> None:
        harm()
        assert state() != before
        if fails:
            raise RuntimeError("failed on purpose")

    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            work()
    else:
        work()
    assert state() == before


@needs_affinity
def test_cores_of_every_thread_are_put_back() -> None:
    from miaotui.hardware import limit_cores

    before, other, told = os.sched_getaffinity(0), threading.Event(), []
    started = threading.Event()

    def wait() -> None:
        started.set()
        other.wait()
        told.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    with process_as_found():
        limit_cores(1)
        assert len(os.sched_getaffinity(0)) == 1
    other.set()
    thread.join()
    assert os.sched_getaffinity(0) == before
    assert told == [before]


@needs_affinity
def test_a_thread_that_an_engine_pinned_stays_so() -> None:
    one = {min(os.sched_getaffinity(0))}
    pinned, end, told = threading.Event(), threading.Event(), []

    def pin() -> None:
        os.sched_setaffinity(0, one)
        pinned.set()
        end.wait()
        told.append(os.sched_getaffinity(0))

    with process_as_found():
        thread = threading.Thread(target=pin)
        thread.start()
        pinned.wait()
    end.set()
    thread.join()
    assert told == [one]
