"""`python -m miaotui.worker_process BUNDLE CORES`: answers lines of texts until there are no more.

Started by `workers`, in a session of its own: the parent decides when it ends, not Ctrl-C. Each
line in is a JSON list of texts; each line out an object with `answers`, or with `error` and its
`kind`. The first line out says that the bundle is open.
"""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from miaotui.bundle import load
from miaotui.data.inputs import Text, Words
from miaotui.errors import EngineFailed, MiaotuiError, first_line
from miaotui.predictor import Predictor
from miaotui.quiet import silence_telemetry

_OF_LIBRARIES = (RuntimeError, ValueError, TypeError, LookupError)
"""What libraries raise of texts that they cannot take: the parent is told, the process lives."""


def main(folder: str, cores: str, detail: str = "") -> None:
    """Whatever a library prints goes to the standard error: the pipe is for answers alone."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    silence_telemetry()
    numbers = {int(number) for number in cores.split(",")}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, numbers)
    try:
        predictor = load(folder, len(numbers), detailed=bool(detail))
    except MiaotuiError as error:
        _tell(out, _told(error))
        return
    _tell(out, {"warnings": predictor.warnings, "task": predictor.task.name})
    for line in sys.stdin.buffer:
        _tell(out, _answers(predictor, line))


def _answers(predictor: Predictor, line: bytes) -> dict[str, Any]:
    try:
        texts = [_read(text) for text in json.loads(line)]
        answers = [_as_dict(answer) for answer in predictor(texts)]
    except MiaotuiError as error:
        return _told(error)
    except _OF_LIBRARIES as error:
        return _told(EngineFailed(f"{type(error).__name__}: {first_line(error)}"))
    drift = predictor.drift()
    return {"answers": answers, "drift": None if drift is None else asdict(drift)}


def _as_dict(answer: Any) -> dict[str, Any]:
    return asdict(answer)


def _read(told: Any) -> Text:
    """A text, a list of the two of a pair, or an object of a text and its words' places."""
    if isinstance(told, dict):
        return Words(told["text"], tuple(told["starts"]), tuple(told["ends"]))
    return told if isinstance(told, str) else (told[0], told[1])


def _told(error: MiaotuiError) -> dict[str, Any]:
    return {"error": str(error), "kind": type(error).__name__}


def _tell(out: IO[bytes], message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the parent has gone
        main(*sys.argv[1:])
