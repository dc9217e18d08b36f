"""Processes that take turns: real ones, which stop, die, hang and outlive nobody."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corestream.measure.process import ChildError, MisuseError, TurnProcess, read_memory

# Without `corestream.measure`'s torch a process starts at once.
STUB = """
import importlib.util, os, signal, sys, time, types
from pathlib import Path
folder = Path({folder!r})
for name in ("corestream.measure",):
    package = types.ModuleType(name)
    package.__path__ = [str(folder / "measure")]
    sys.modules[name] = package
from corestream.measure.process import MisuseError, serve
"""
HANDLERS = """
def talk(tell):
    for word in ("one", "two"):
        tell(word)
    return "three"

def misuse(tell):
    raise MisuseError("model must be better")

def fail(tell):
    raise RuntimeError("two\\nlines")

def die(tell, how):
    print("last words", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGSEGV)

def chatter(tell):
    print("not an answer")
    os.write(1, b"nor this\\n")
    return None

def hang(tell):
    while True:
        signal.pause()

def child(tell):
    return os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")

serve({name: value for name, value in globals().items() if callable(value)})
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def make() -> TurnProcess:
        package = Path(sys.modules["corestream"].__file__).parent
        program = STUB.format(folder=str(package)) + HANDLERS
        log = tmp_path / f"log{len(started)}"
        process = TurnProcess([sys.executable, "-c", program], name="the child", log=log)
        started.append(process)
        return process

    yield make
    for process in started:
        process.close()


def state_of(pid: int) -> str:
    """The letter of /proc: T is stopped; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def has_ended(descriptor: int) -> bool:
    """Waits for it: a pidfd is readable when its process has ended, whoever its parent is."""
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def test_it_answers_and_stands_still_until_asked_again(start):
    process = start()
    said = []
    for _ in range(2):
        assert process.ask("talk", timeout_s=60, on_tick=said.append) == "three"
        assert state_of(process.pid) == "T"
    assert [text for text in said if text] == ["one", "two"] * 2
    assert process.cpu_seconds() > 0
    memory = process.memory()
    assert memory is not None
    assert memory.rss_bytes > 1 << 20


def test_what_it_raises_is_raised_and_it_goes_on(start):
    process = start()
    with pytest.raises(MisuseError, match=r"^model must be better$"):
        process.ask("misuse", timeout_s=60)
    with pytest.raises(ChildError, match=r"^RuntimeError: two lines$"):
        process.ask("fail", timeout_s=60)
    assert process.ask("talk", timeout_s=60) == "three"


@pytest.mark.parametrize(
    ("how", "text"), [("exit", "died with exit status 7"), ("signal", "died of SIGSEGV")]
)
def test_a_death_is_told_with_the_last_words(start, how, text):
    process = start()
    with pytest.raises(ChildError, match=f"^the child {text}: last words$"):
        process.ask("die", timeout_s=60, how=how)


def test_what_it_prints_is_no_answer(start):
    process = start()
    assert process.ask("chatter", timeout_s=60) is None
    assert process.ask("talk", timeout_s=60) == "three"


def test_a_hang_is_an_error_and_nothing_is_left(start):
    process = start()
    process.ask("talk", timeout_s=60)  # it is up
    with pytest.raises(ChildError, match=r"must answer within 0\.05 s; it hangs"):
        process.ask("hang", timeout_s=0.05)
    process.close()
    process.close()
    assert state_of(process.pid) == ""


def test_what_it_started_ends_with_it(start):
    process = start()
    grandchild = process.ask("child", timeout_s=60)
    assert state_of(grandchild) in ("R", "S", "D", "T")
    descriptor = os.pidfd_open(grandchild)
    process.close()
    assert has_ended(descriptor)


def test_it_ends_when_its_parent_is_killed(tmp_path):
    package = Path(sys.modules["corestream"].__file__).parent
    program = STUB.format(folder=str(package)) + textwrap.dedent(
        """
        from corestream.measure.process import TurnProcess
        child = STUB + "serve({'ready': lambda tell: None})"
        process = TurnProcess([sys.executable, "-c", child], name="x", log=Path(sys.argv[1]))
        process.ask("ready", timeout_s=60)
        print(process.pid, flush=True)
        signal.pause()
        """
    ).replace("STUB", repr(STUB.format(folder=str(package))))
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
    assert has_ended(descriptor)


def test_memory_of_no_process_is_unknown():
    assert read_memory(2**30) is None
    memory = read_memory(os.getpid())
    assert memory is not None
    if memory.pss_bytes is not None:
        assert 0 < memory.pss_bytes <= memory.rss_bytes
