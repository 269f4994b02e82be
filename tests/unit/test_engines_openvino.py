"""What the OpenVINO engine does about its bindings' first call."""

import threading
import time
from collections.abc import Callable

import pytest

from miaotui.engines.openvino import FirstAlone


class Calls:
    """Counts how many run at once, and how many did at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self.most = 0

    def __call__(self) -> None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        time.sleep(0.1)
        with self._lock:
            self._running -= 1


def together(first: FirstAlone, call: Callable[[], None], threads: int = 4) -> None:
    ready = threading.Barrier(threads)

    def one() -> None:
        ready.wait()
        first(call)

    started = [threading.Thread(target=one) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def test_the_first_call_is_alone_and_later_ones_are_not() -> None:
    first = FirstAlone()
    early, late = Calls(), Calls()

    together(first, early)
    together(first, late)

    assert early.most == 1
    assert late.most > 1


def test_a_first_call_that_fails_leaves_the_next_one_alone() -> None:
    first, calls = FirstAlone(), Calls()

    def failing() -> None:
        raise RuntimeError("no such shape")

    with pytest.raises(RuntimeError, match="no such shape"):
        first(failing)
    together(first, calls)

    assert calls.most == 1
