"""What an instance of the launcher's tests does; it says what it is and waits as it is told.

instance.py report [ARGUMENTS]...     print what this process was given, as JSON
instance.py wait                      print the process id, then every signal that comes;
                                      the last is SIGTERM
instance.py stubborn                  as `wait`, but SIGTERM is not the last
instance.py fail CODE                 instance 0 ends with CODE when the others have said
                                      so; those wait
instance.py orphan                    leave a grandchild behind, and wait
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

INDEX = os.environ.get("CORESTREAM_INSTANCE_INDEX", "0")


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def report() -> None:
    found = {
        "argv": sys.argv[1:],
        "affinity": sorted(os.sched_getaffinity(0)),
        "environ": dict(os.environ),
        "pid": os.getpid(),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "unbuffered": sys.stdout.write_through,
        "blocked": status("SigBlk"),
        "ignored": status("SigIgn"),
        "torch": "torch" in sys.modules,
    }
    print(json.dumps(found))


def say(text: str) -> None:
    """In one write, because several processes write to the same pipe."""
    os.write(1, f"{text}\n".encode())


def wait(*, last: signal.Signals | None) -> None:
    heard = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    say(f"pid {os.getpid()}")
    while True:
        received = signal.sigwait(heard)
        say(f"received {signal.Signals(received).name}")
        if received == last:
            return


def fail(code: str, *, is_stubborn: bool) -> None:
    if INDEX != "0":
        wait(last=None if is_stubborn else signal.SIGTERM)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    say(f"pid {os.getpid()}")
    signal.sigwait({signal.SIGUSR1})
    if code.startswith("-"):
        os.kill(os.getpid(), -int(code))
    sys.exit(int(code))


def worker() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        signal.sigwait({signal.SIGUSR2})
    say(f"worker {child}")
    wait(last=None)


def orphan() -> None:
    """The grandchild's parent has ended when it ends."""
    if os.fork() == 0:
        if os.fork() == 0:
            say(f"orphan {os.getpid()}")
        os._exit(0)
    os.wait()
    wait(last=signal.SIGTERM)


def main() -> None:
    match sys.argv[1]:
        case "report":
            report()
        case "wait":
            wait(last=signal.SIGTERM)
        case "stubborn":
            wait(last=None)
        case "fail":
            fail(sys.argv[2], is_stubborn="stubborn" in sys.argv)
        case "worker":
            worker()
        case "orphan":
            orphan()


if __name__ == "__main__":
    main()
