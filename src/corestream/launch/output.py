"""The output of instances: their lines on the terminal, with a prefix, and their log files."""

from __future__ import annotations

import os
import select
import selectors
import threading
from pathlib import Path
from typing import BinaryIO

from corestream.launch.lines import Lines
from corestream.launch.messages import flush, say

_CHUNK = 64 * 1024

_LAST_READS = 32
"""A pipe holds at most 1 MiB without special permission; more is written after the end."""


class _Sink:
    """A descriptor to write to, until that fails: nobody reads, or the disk is full."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and self.error is None:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another program made the terminal non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error


class _Stream:
    """One pipe of an instance, and where it goes."""

    def __init__(
        self, pipe: BinaryIO, *, terminal: _Sink, log: _Sink | None, prefix: bytes
    ) -> None:
        self.pipe = pipe
        self._terminal = terminal
        self._log = log
        self._lines = Lines(terminal.write, prefix=prefix)

    def copy_once(self) -> bool:
        """Copy what is there; return whether more may be."""
        try:
            data = os.read(self.pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.end()
            return False
        if self._log is not None:
            self._log.write(data)
        self._lines.feed(data)
        if self._terminal.error is not None and self._log is None:
            self.pipe.close()
        return not self.pipe.closed

    def end(self) -> None:
        """Pass on the last line, and let go of the pipe."""
        self._lines.end()
        self.pipe.close()


class Output:
    """Copies what instances write, line by line, from one thread of its own.

    Standard output goes to standard output, standard error to standard error; a log file gets
    both, unchanged, in the order of their arrival. Where nobody reads any more (`| head`) and no
    log is kept, the instance's own pipe is closed, and it learns of it as without a launcher.

    Args:
        is_prefixed: Begin every line on the terminal with the number of the instance.

    Not thread-safe, except that copying goes on beside its methods; the GIL is released while it
    waits.
    """

    def __init__(self, *, is_prefixed: bool) -> None:
        self._is_prefixed = is_prefixed
        self._terminals = (_Sink(1), _Sink(2))
        self._logs: dict[int, tuple[_Sink, int]] = {}
        self._streams: list[_Stream] = []
        self._wake_read, self._wake_write = os.pipe()
        self._thread: threading.Thread | None = None

    def open_log(self, index: int, path: str) -> None:
        """Append what instance `index` writes to a file as well.

        Args:
            index: The instance.
            path: The file; its folder is made.

        Raises:
            OSError: It cannot be written.
        """
        folder = Path(path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OSError(
                f"log_dir must be a folder to write to; got {str(folder)!r}; {error.strerror}"
            ) from error
        self._logs[index] = (_Sink(descriptor), descriptor)

    def add(self, index: int, pipe: BinaryIO, *, is_error: bool) -> None:
        """Copy from a pipe of an instance until it ends.

        Args:
            index: The instance.
            pipe: Its end for reading; closed here.
            is_error: Whether it is standard error.
        """
        os.set_blocking(pipe.fileno(), False)
        log, _ = self._logs.get(index, (None, None))
        prefix = f"[{index}] ".encode() if self._is_prefixed else b""
        terminal = self._terminals[is_error]
        self._streams.append(_Stream(pipe, terminal=terminal, log=log, prefix=prefix))

    def start(self) -> None:
        """Begin to copy; call it when no process is to be forked any more."""
        flush()
        self._thread = threading.Thread(target=self._copy, name="corestream-output", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy what was written so far, then let go of pipes and files.

        Descendants of an instance that outlive it keep its pipes open: nothing waits for them.
        """
        os.close(self._wake_write)
        if self._thread is not None:
            self._thread.join()
        for stream in self._streams:
            stream.pipe.close()
        os.close(self._wake_read)
        for index, (log, descriptor) in self._logs.items():
            if log.error is not None:
                say(f"the log of instance {index} is incomplete: {log.error.strerror}")
            os.close(descriptor)

    def _copy(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            for stream in self._streams:
                selector.register(stream.pipe, selectors.EVENT_READ, stream)
            is_ending = False
            while not is_ending:
                for key, _ in selector.select():
                    if key.data is None:
                        is_ending = True
                        continue
                    key.data.copy_once()
                    if key.data.pipe.closed:
                        selector.unregister(key.fileobj)
        for stream in self._streams:
            for _ in range(_LAST_READS):
                if stream.pipe.closed or not stream.copy_once():
                    break
            if not stream.pipe.closed:
                stream.end()
