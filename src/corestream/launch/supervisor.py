"""Watching over several instances: signals to each of them, and one end for all.

Signals are blocked and waited for (sigtimedwait), so that there is no handler, and nothing that
one could interrupt. Each instance leads a process group of its own: what the terminal sends
reaches it once, through the launcher, and its end can take along the processes that it made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corestream.launch.messages import say
from corestream.launch.output import Output
from corestream.launch.plan import InstancePlan, LaunchPlan
from corestream.launch.process import confine, die_with

# Sent on to the instances. After one that asks for the end nobody is killed for not ending.
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
FORWARDED = ENDING | {
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
}

CANNOT_LAUNCH = 125
"""Exit code: the launcher itself failed, as with env(1) and nohup(1)."""

_AFTER_KILL_S = 5.0
"""How long to wait for a process that was sent SIGKILL: one in the kernel may never end."""


@dataclass(slots=True)
class _Running:
    """An instance, from its start until it has ended and was reaped."""

    plan: InstancePlan
    process: subprocess.Popen[bytes]
    code: int | None = None
    """0 to 255 once it has ended; its process id is kept from reuse until it is reaped."""
    is_reaped: bool = False


class Supervisor:
    """Starts the instances of a plan and waits until all have ended.

    Args:
        plan: The instances.
        environ: The launcher's environment.
        output: Where their output goes.

    Not thread-safe: used once, in the main thread; releases the GIL while it waits.
    """

    def __init__(self, plan: LaunchPlan, *, environ: Mapping[str, str], output: Output) -> None:
        self._plan = plan
        self._environ = environ
        self._output = output
        self._running: list[_Running] = []
        self._first_failure: int | None = None
        self._is_asked_to_end = False
        self._deadline_s: float | None = None
        self._not_ours: set[int] = set()
        # What the launcher's parent had it ignore (nohup) stays ignored, by the instances, too.
        heard = {s for s in FORWARDED if signal.getsignal(s) is not signal.SIG_IGN}
        self._signals = frozenset(heard | {signal.SIGCHLD})

    def run(self) -> int:
        """Start, watch, end.

        Returns:
            The exit code of the first failure, or 0.

        Raises:
            OSError: An instance could not be started; those that were are ended.
        """
        self._not_ours = _children()
        on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            try:
                for instance in self._plan.instances:
                    self._start(instance, before)
                self._output.start()
                self._watch()
            finally:
                self._end_all()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            signal.signal(signal.SIGCHLD, on_child)
        return self._first_failure or 0

    def _start(self, instance: InstancePlan, mask: set[int | signal.Signals]) -> None:
        launcher = os.getpid()

        def prepare() -> None:
            # In the child, before exec; the parent has no other thread yet.
            die_with(launcher)
            try:
                note = confine(instance)
            except OSError as error:
                say(str(error.strerror))
                os._exit(CANNOT_LAUNCH)
            if note:
                say(note)
            for number in self._signals:
                if callable(signal.getsignal(number)):  # between here and exec it would be lost
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        process = subprocess.Popen(
            instance.argv,
            env=instance.environ(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
            preexec_fn=prepare,
        )
        self._running.append(_Running(instance, process))
        for pipe, is_error in ((process.stdout, False), (process.stderr, True)):
            self._output.add(instance.index, pipe, is_error=is_error)  # type: ignore[arg-type]

    def _watch(self) -> None:
        """Wait until every instance has ended, or those that have to end were given their time."""
        self._collect()
        while any(running.code is None for running in self._running):
            received = self._wait_for_signal()
            if received is None:
                return
            if received in FORWARDED:
                self._forward(signal.Signals(received))
            self._collect()

    def _wait_for_signal(self) -> int | None:
        if self._deadline_s is None:
            return signal.sigwaitinfo(self._signals).si_signo
        left_s = self._deadline_s - time.monotonic()
        received = signal.sigtimedwait(self._signals, max(left_s, 0))
        return received.si_signo if received else None

    def _forward(self, number: signal.Signals) -> None:
        self._is_asked_to_end |= number in ENDING
        self._send(number)
        if number is signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)
            self._send(signal.SIGCONT)  # execution goes on here when the launcher is continued

    def _send(self, number: signal.Signals) -> None:
        for running in self._running:
            if not running.is_reaped:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(running.process.pid, number)

    def _collect(self) -> None:
        """Note who has ended, and have the others end after the first failure."""
        for running in self._running:
            if running.code is None:
                running.code = _exit_code(running.process.pid)
                if running.code is not None:
                    self._note_end(running)
        own = {running.process.pid for running in self._running}
        for pid in _children() - own - self._not_ours:
            # As the first process of a container one inherits what others leave behind.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _note_end(self, running: _Running) -> None:
        if running.code == 0:
            self._reap(running)
            return
        if self._first_failure is not None:
            return
        self._first_failure = running.code
        left = sum(other.code is None for other in self._running)
        if self._is_asked_to_end or not left:
            return
        say(
            f"instance {running.plan.index} ended with exit code {running.code}; "
            f"ending the other {left}"
        )
        self._send(signal.SIGTERM)
        # A stopped process takes the signal when it is continued.
        self._send(signal.SIGCONT)
        self._deadline_s = time.monotonic() + self._plan.grace_s

    def _end_all(self) -> None:
        """Kill what is left of the instances and of their process groups, and reap them."""
        if any(running.code is None for running in self._running):
            late = [str(r.plan.index) for r in self._running if r.code is None]
            say(f"killing instance {', '.join(late)}")
        self._is_asked_to_end = True  # nothing that ends from here on is a failure to tell of
        self._send(signal.SIGKILL)
        deadline_s = time.monotonic() + _AFTER_KILL_S
        while any(running.code is None for running in self._running):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left_s) is None:
                break
            self._collect()
        for running in self._running:
            self._reap(running)

    def _reap(self, running: _Running) -> None:
        if running.code is not None and not running.is_reaped:
            running.process.wait()
            running.is_reaped = True


def _exit_code(pid: int) -> int | None:
    """Return the exit code of a child that has ended, without reaping it; None before."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _children() -> set[int]:
    """Return the children of this thread; none where the kernel does not list them."""
    try:
        text = Path("/proc/thread-self/children").read_text()
    except OSError:
        return set()
    return {int(word) for word in text.split()}
