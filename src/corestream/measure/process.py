"""A process that measures when it is its turn, and stands still while others measure.

What is measured together must not share a process, whose OpenMP teams and caches would mix, and
must not run together. So each has a process of its own, stopped by SIGSTOP but in its turn: no
thread of it spins then, whatever its library believes about idleness. It ends with its parent, also
if that is killed.

Both sides speak lines of JSON: a request `{"do": name, ...}`, then `{"progress": text}` any number
of times, then `{"result": ...}` or `{"error": text, "is_usage": bool}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from corestream.measure.named import one_line

_PR_SET_PDEATHSIG = 1
_TICK_S = 0.2
_LAST_WORDS_CHARS = 300

# Named by the parent, so that a child whose parent died before it could ask for the signal ends.
_PARENT_VARIABLE = "CORESTREAM_MEASURING_PARENT"


class ChildError(Exception):
    """The process died, hung, or could not do what it was asked: says which, and its last words."""


class MisuseError(Exception):
    """What the process was asked for is the user's mistake: says which, in one line."""


@dataclass(frozen=True)
class Memory:
    """What a process takes.

    Attributes:
        rss_bytes: Its pages in memory, those that it shares with others included.
        pss_bytes: The same with each shared page divided by the processes that share it; None
            where the kernel does not tell.

    A value: threads may share it.
    """

    rss_bytes: int
    pss_bytes: int | None


class TurnProcess:
    """A process that is stopped but in its turn.

    :meth:`close` ends it and all that it has started. If this process is killed, the kernel ends
    the child, but not what that had running itself.

    Args:
        argv: The program; :func:`serve` is its main loop.
        name: What errors call it.
        log: The file that gets what it prints.
        environ: Variables beside this process's.

    Example:
        >>> import tempfile
        >>> program = (
        ...     "import corestream.measure.process as process; "
        ...     "process.serve({'add': lambda tell, a, b: a + b})"
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder) / "log"
        ...     with TurnProcess([sys.executable, "-c", program], name="adder", log=log) as adder:
        ...         adder.ask("add", timeout_s=60, a=1, b=2)
        3

    Not thread-safe: one thread asks; waiting releases the GIL.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._log, self._buffer = name, log, b""
        self._is_closed = False
        with log.open("w") as output:
            self._process = subprocess.Popen(
                list(argv),
                env={**os.environ, **(environ or {}), _PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # a group, to stop and to end with all it starts
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(
        self,
        what: str,
        *,
        timeout_s: float,
        on_tick: Callable[[str], object] | None = None,
        **arguments: Any,
    ) -> Any:
        """Lets it run until it has answered; it is stopped when this returns.

        Args:
            what: The name of what it shall do.
            timeout_s: How long that may take.
            on_tick: Called some times a second with what it last said about its progress.
            **arguments: Values for JSON.

        Returns:
            Its answer, as JSON has it.

        Raises:
            MisuseError: What it was asked for is the user's mistake.
            ChildError: It died, took too long, or failed; it is still to be closed.
        """
        self.send(what, **arguments)
        return self.receive(timeout_s=timeout_s, on_tick=on_tick)

    def send(self, what: str, **arguments: Any) -> None:
        """The first half of :meth:`ask`, for processes that measure together."""
        self._signal(signal.SIGCONT)
        pipe = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has died: reading tells how
            if pipe is not None:
                pipe.write((json.dumps({"do": what, **arguments}) + "\n").encode())
                pipe.flush()

    def receive(self, *, timeout_s: float, on_tick: Callable[[str], object] | None = None) -> Any:
        """The second half of :meth:`ask`."""
        end = time.monotonic() + timeout_s
        text = ""
        while True:
            line = self._next_line(min(end, time.monotonic() + _TICK_S))
            if line is None and time.monotonic() >= end:
                raise ChildError(f"{self._name} must answer within {timeout_s:g} s; it hangs")
            answer = json.loads(line) if line is not None else {"progress": text}
            if "progress" not in answer:
                break
            text = answer["progress"]
            if on_tick is not None:
                on_tick(text)
        self._stop()
        if "error" in answer:
            kind = MisuseError if answer["is_usage"] else ChildError
            raise kind(answer["error"])
        return answer["result"]

    def memory(self) -> Memory | None:
        """What it takes now; None where the kernel does not tell."""
        return read_memory(self.pid)

    def cpu_seconds(self) -> float:
        """CPU time of all its threads since it was started; 0 where the kernel does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Kills it and what it started, and waits for it. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _stop(self) -> None:
        """Returns when the last thread has stopped, or the process has ended."""
        self._signal(signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _next_line(self, end: float) -> bytes | None:
        """The next line that it writes; None if there was none until `end`."""
        if self._process.stdout is None:
            raise ChildError(f"{self._name} has no standard output")
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            received = os.read(descriptor, 1 << 16)
            if not received:
                raise ChildError(f"{self._name} died {self._how()}: {self._last_words()}")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _how(self) -> str:
        status = self._process.wait()
        if status >= 0:
            return f"with exit status {status}"
        try:
            return f"of {signal.Signals(-status).name}"
        except ValueError:
            return f"of signal {-status}"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_WORDS_CHARS] if lines else "it said nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """The main loop of a :class:`TurnProcess`: answers requests until its input ends.

    Args:
        handlers: By name; each is called with a function that tells the parent about progress, and
            with the request's arguments as keywords, and returns a value for JSON. An exception
            becomes the answer: MisuseError is raised as such in the parent, others as ChildError;
            the traceback goes to the log.

    Not thread-safe: it owns standard input and output; holds the GIL but while it waits.
    """
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer

    def tell(text: str) -> None:
        print(json.dumps({"progress": text}), file=answers)

    for line in sys.stdin:
        request = json.loads(line)
        handler = handlers[request.pop("do")]
        try:
            answer = {"result": handler(tell, **request)}
        except MisuseError as error:
            _log_traceback()
            answer = {"error": str(error), "is_usage": True}
        except Exception as error:  # noqa: BLE001 (the parent raises it)
            _log_traceback()
            answer = {"error": one_line(error), "is_usage": False}
        print(json.dumps(answer), file=answers)


def read_memory(pid: int) -> Memory | None:
    """What a process takes.

    Args:
        pid: Its id.

    Returns:
        None where the kernel does not tell, or there is no such process.

    Example:
        >>> read_memory(os.getpid()).rss_bytes > 1e6
        True

    Thread-safe; reads /proc with the GIL held.
    """
    try:
        fields = _kibibytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return Memory(fields["Rss"], fields["Pss"])
    except (OSError, KeyError):
        pass
    try:
        return Memory(_kibibytes(Path(f"/proc/{pid}/status").read_text())["VmRSS"], None)
    except (OSError, KeyError):
        return None


def _kibibytes(text: str) -> dict[str, int]:
    """The lines "Name:   123 kB", in bytes."""
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB":
            fields[name] = int(words[0]) * 1024
    return fields


def _end_with_parent() -> None:
    """SIGKILL when the thread that started this process ends, also when it is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.environ.pop(_PARENT_VARIABLE, "") not in ("", str(os.getppid())):
        os._exit(1)


def _log_traceback() -> None:
    import traceback

    traceback.print_exc()
