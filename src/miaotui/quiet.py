"""Switches off what third-party packages would send home from our processes, and their chatter."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

SWITCHES = {
    # onnxruntime: no uploader, no device id under the user's cache (official builds upload).
    "ORT_DISABLE_TELEMETRY": "1",
    # nncf.telemetry replaces its sender by a stub where this is set.
    "NNCF_CI": "1",
    # huggingface_hub, and transformers through it.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Environment variables, inherited by child processes."""

_SENDER = "openvino_telemetry"


def silence_telemetry() -> None:
    """Turns telemetry off in this process; call it before importing an engine.

    It may be called again: what was imported meanwhile is switched off through its own API. A
    child process inherits the environment variables, but must call this before it imports openvino.
    """
    os.environ.update(SWITCHES)
    _block_openvino_sender()
    _silence_imported()


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps warnings, log lines under errors and progress bars of libraries off the terminal, and
    off stdout, which belongs to our one document. Not for code of ours: its warnings matter."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextmanager
def hushed_transformers() -> Iterator[None]:
    """transformers prints a bar and a table for each load; neither is for our users."""
    from transformers.utils import logging as chatter

    level, had_bar = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    chatter.set_verbosity_error()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if had_bar:
            chatter.enable_progress_bar()


def _block_openvino_sender() -> None:
    """Makes `import openvino_telemetry` fail, upon which openvino and nncf use their stubs.

    Importing openvino sends an event, and no variable stops it but those that pretend to be CI.
    """
    sys.modules.setdefault(_SENDER, None)  # type: ignore[arg-type]


def _silence_imported() -> None:
    """For packages imported earlier, which read the variables then."""
    sender = sys.modules.get(f"{_SENDER}.utils.sender")
    if sender is not None:
        sender.TelemetrySender.send = _discard
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None:
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None and hasattr(runtime, "disable_telemetry_events"):
        runtime.disable_telemetry_events()


def _discard(_sender: object, _backend: object, _message: object) -> None:
    """Takes the place of `TelemetrySender.send`."""
