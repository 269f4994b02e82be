"""Leaves the process of whoever calls us as it was found."""

import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil

from miaotui.quiet import SWITCHES


@contextmanager
def process_as_found() -> Iterator[None]:
    """Puts back, whatever happens, what work inside may change of the process: the cores of each
    thread, torch's threads, environment, filters of warnings, levels of logging, random states.
    Telemetry stays off (`quiet`)."""
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        for kept in (_environment, _logging, _random_states, _torch, _cores):
            undo.enter_context(contextmanager(kept)())
        yield


def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before) - set(SWITCHES):
            del os.environ[name]
        os.environ.update(before)


def _logging() -> Iterator[None]:
    root = logging.getLogger()
    level, disabled, handlers = root.level, root.manager.disable, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.manager.disable = disabled
        root.handlers[:] = handlers


def _random_states() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the caller's)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _torch() -> Iterator[None]:
    """Where the caller has imported it; otherwise there is nothing to put back."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def _cores() -> Iterator[None]:
    """The system keeps them thread by thread; where the caller's were limited, threads that are new
    get those of the caller too. Otherwise no thread is touched: an engine pins its own."""
    if not hasattr(os, "sched_getaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    before = {thread.id: _cores_of(thread.id) for thread in psutil.Process().threads()}
    try:
        yield
    finally:
        if os.sched_getaffinity(0) != own:
            _put_back(own, before)


def _put_back(own: set[int], before: dict[int, set[int] | None]) -> None:
    os.sched_setaffinity(0, own)
    for thread in psutil.Process().threads():
        try:
            os.sched_setaffinity(thread.id, before.get(thread.id) or own)
        except ProcessLookupError:  # it has ended since
            continue


def _cores_of(thread: int) -> set[int] | None:
    try:
        return os.sched_getaffinity(thread)
    except ProcessLookupError:
        return None
