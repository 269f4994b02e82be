"""A bundle in several processes, each on cores of its own. Answers come in the caller's order; a
process that dies is replaced and its texts are answered again.

Parent and children talk in lines of JSON over pipes; the other end is `worker_process`.
"""

import json
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from miaotui import errors
from miaotui.data.inputs import Text, Words
from miaotui.drift import Drift, merged
from miaotui.errors import BudgetError, EngineFailed, MiaotuiError
from miaotui.hardware import usable_core_numbers
from miaotui.predictor import Answerer, chunks_of
from miaotui.tasks import DEFAULT_TASK, TASKS, Task
from miaotui.tasks.task import Answer

ATTEMPTS = 3
"""Processes that the same texts may cost before they are given up."""
_LEAST_TEXTS = 16
"""Fewer are not worth another process."""
_END_S = 5.0


class Workers(Answerer):
    """A predictor in `workers` processes.

    `cores` bounds the cores of all of them together, each gets its share. More workers than cores
    are a BudgetError; a bundle that does not open is the error that it is in one process. Used as a
    context, it is closed at the end, and killed where an error or Ctrl-C ends it.
    """

    command: ClassVar[tuple[str, ...]] = (sys.executable, "-P", "-m", "miaotui.worker_process")
    """What a process is started by; the bundle, its cores and `detailed` follow."""

    def __init__(
        self, folder: str | Path, workers: int, cores: int | None = None, detailed: bool = False
    ) -> None:
        shares = _shares(usable_core_numbers(cores), workers)
        bundle, more = str(Path(folder).absolute()), ("detailed",) if detailed else ()
        self._processes = [
            _Process((*self.command, bundle, ",".join(map(str, share)), *more)) for share in shares
        ]
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(workers, "miaotui-worker")
        self._closed = False
        with ExitStack() as undo:
            undo.callback(self.kill)
            told = [process.wait_until_ready() for process in self._processes]
            undo.pop_all()
        self.warnings = tuple(told[0])
        for process in self._processes:
            self._idle.put(process)

    def answer(self, texts: list[Text]) -> list[Answer]:
        """Texts enough for it are shared among all processes."""
        parts = max(1, min(len(self._processes), len(texts) // _LEAST_TEXTS))
        size = -(-len(texts) // parts)
        return list(self.stream(texts, size))

    def stream(self, texts: Iterable[Text], rows: int = 256) -> Iterator[Answer]:
        """Answers in order, as they are ready, `rows` texts a process at a time. What was not begun
        when the iteration is given up is not answered."""
        if rows < 1:
            raise BudgetError(f"{rows} rows a process at a time; give 1 or more")
        if self._closed:
            raise EngineFailed("these workers are closed; make new ones")
        return self._stream(chunks_of(texts, rows))

    def _stream(self, chunks: Iterator[list[Text]]) -> Iterator[Answer]:
        running = deque[Future[list[Answer]]]()
        try:
            while True:
                for chunk in islice(chunks, len(self._processes) + 1 - len(running)):
                    running.append(self._pool.submit(self._answer, chunk))
                if not running:
                    return
                yield from running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def drift(self) -> Drift | None:
        """Of the last rows of all processes."""
        return merged([process.drift for process in self._processes if process.drift])

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the processes that run now, in order of their cores."""
        return tuple(process.id for process in self._processes)

    def _answer(self, texts: list[Text]) -> list[Answer]:
        process = self._idle.get()
        try:
            for _ in range(ATTEMPTS - 1):
                try:
                    return process.answer(texts)
                except _Died:
                    self._start_again(process)
            return [self._last_try(process, text) for text in texts]
        finally:
            self._idle.put(process)

    def _last_try(self, process: "_Process", text: Text) -> Answer:
        """One text alone, so that the one that ends processes is known."""
        try:
            return process.answer([text])[0]
        except _Died as death:
            self._start_again(process)
            raise EngineFailed(
                f"the text {str(text)[:60]!r} ended {ATTEMPTS} processes one after another "
                f"({death}); answer it in one process to see why"
            ) from None

    def _start_again(self, process: "_Process") -> None:
        if self._closed:
            raise EngineFailed("the workers were closed before these texts were answered")
        process.start()
        process.wait_until_ready()

    def close(self) -> None:
        """Waits for texts on their way, then ends the processes."""
        self._closed = True
        self._pool.shutdown()
        for process in self._processes:
            process.end()

    def kill(self) -> None:
        """Ends the processes at once, whatever they are at."""
        self._closed = True
        for process in self._processes:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.end()

    def __exit__(self, *reason: object) -> None:
        if reason[0] is None:
            self.close()
        else:
            self.kill()


def _shares(cores: Sequence[int], workers: int) -> list[Sequence[int]]:
    if not 1 <= workers <= len(cores):
        raise BudgetError(
            f"{workers} workers asked for; choose from 1 to {len(cores)}, a core each at least"
        )
    edges = [len(cores) * i // workers for i in range(workers + 1)]
    return [cores[first:last] for first, last in zip(edges, edges[1:], strict=False)]


class _Died(Exception):  # noqa: N818  (it is caught where it is raised, and read as a sentence)
    """A process ended before it answered."""


class _Process:
    """One child: started at once, ready when it says so, started again where it died."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.drift: Drift | None = None
        self._task: type[Task] = DEFAULT_TASK
        self.start()

    @property
    def id(self) -> int:
        return self._child.pid

    def start(self) -> None:
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._to = cast(IO[bytes], self._child.stdin)
        self._from = cast(IO[bytes], self._child.stdout)

    def wait_until_ready(self) -> list[str]:
        """The bundle's warnings; an error of ours that the child tells is raised here."""
        try:
            told = self._read()
        except _Died as death:
            raise EngineFailed(f"a worker ended before it was ready: {death}") from death
        self._task = TASKS[told["task"]]
        return list(told["warnings"])

    def answer(self, texts: list[Text]) -> list[Answer]:
        try:
            self._to.write(json.dumps(list(map(_told, texts))).encode() + b"\n")
            self._to.flush()
        except OSError:
            raise _Died(self._cause()) from None
        except ValueError:  # its pipes were closed when it died
            raise _Died("it had died before") from None
        told = self._read()
        self.drift = None if told["drift"] is None else Drift(**told["drift"])
        return [self._task.read_answer(answer) for answer in told["answers"]]

    def _read(self) -> dict[str, Any]:
        try:
            line = self._from.readline()
        except ValueError:
            line = b""
        if not line.endswith(b"\n"):
            raise _Died(self._cause())
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise _error(told["kind"], told["error"])
        return told

    def _cause(self) -> str:
        self._child.kill()
        self._close_pipes()
        status = self._child.wait()
        if status >= 0:
            return f"exit status {status}"
        return f"signal {signal.Signals(-status).name}"

    def kill(self) -> None:
        self._child.kill()

    def end(self) -> None:
        """Lets the child finish: it ends when nothing more can come."""
        self._close_pipes()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _close_pipes(self) -> None:
        for pipe in (self._to, self._from):
            with suppress(OSError):  # what could not be sent to a child that died
                pipe.close()


def _told(text: Text) -> object:
    """As JSON has it; see `worker_process`."""
    return asdict(text) if isinstance(text, Words) else text


def _error(kind: str, message: str) -> MiaotuiError:
    """The error of ours that a child met, as it would be in this process."""
    error = getattr(errors, kind, EngineFailed)
    return error(message)
