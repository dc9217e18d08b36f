"""Several instances: signals reach each, the first failure ends all, and nothing is left."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.launching import INSTANCE, begin, launch
from tests.integration.subprograms import LIMIT_S, finish, run_code

PR_SET_CHILD_SUBREAPER = 36


class Several:
    """A launcher with two instances, both of which have said their process id."""

    def __init__(self, *words: str, options: tuple[str, ...] = ()) -> None:
        self.process = begin("-n", "2", *options, INSTANCE, *words)
        self.heard: list[str] = []
        lines = sorted(self.read("pid") for _ in range(2))
        self.pids = [int(line.split()[-1]) for line in lines]
        # An open descriptor of a process knows when it has ended, whoever reaps it.
        self.descriptors = [os.pidfd_open(pid) for pid in self.pids]

    def read(self, text: str) -> str:
        """The next line of an instance that has `text` in it."""
        while text not in (line := self.process.stdout.readline()):
            assert line, self.process.stderr.read()
            self.heard.append(line)
        return line

    def instances_end(self) -> None:
        for descriptor in self.descriptors:
            assert select.select([descriptor], [], [], LIMIT_S)[0]

    def close(self) -> None:
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.kill()
        self.process.communicate(timeout=LIMIT_S)
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.fixture
def several() -> Iterator[type[Several]]:
    found: list[Several] = []

    def make(*words: str, options: tuple[str, ...] = ()) -> Several:
        found.append(Several(*words, options=options))
        return found[-1]

    yield make
    for one in found:
        one.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
def test_signals_reach_each_instance_once(several, number):
    running = several("wait")
    running.process.send_signal(number)
    lines = [running.read("received"), running.read("received")]
    assert sorted(lines) == [f"[{i}] received {number.name}\n" for i in range(2)]
    if number != signal.SIGTERM:
        running.process.send_signal(signal.SIGTERM)
        assert "SIGTERM" in running.read("received")
    assert finish(running.process).returncode == 0


def test_a_signal_that_ends_the_instances_is_the_exit_code():
    program = "import signal; print('pid', __import__('os').getpid()); signal.pause()"
    process = begin("-n", "2", sys.executable, "-uc", program)
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == ""  # it was asked for: nobody failed


def test_after_a_request_to_end_nobody_is_killed_for_taking_time(several):
    """One instance ends at once with 143, the other drains for as long as it likes."""
    running = several("stubborn", options=("--grace", "0"))
    running.process.send_signal(signal.SIGTERM)
    assert "SIGTERM" in running.read("received")
    assert "SIGTERM" in running.read("received")
    os.kill(running.pids[0], signal.SIGKILL)
    running.process.send_signal(signal.SIGUSR1)
    assert "SIGUSR1" in running.read("received")
    os.kill(running.pids[1], signal.SIGKILL)
    assert finish(running.process).returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(("code", "expected"), [("3", 3), ("-9", 137), ("-11", 139)])
def test_the_first_failure_ends_the_others(several, code, expected):
    running = several("fail", code)
    running.process.send_signal(signal.SIGUSR1)
    done = finish(running.process)
    assert done.returncode == expected
    assert "[1] received SIGTERM\n" in done.stdout
    expected_line = f"instance 0 ended with exit code {expected}; ending the other 1"
    assert done.stderr == f"corestream run: {expected_line}\n"


def test_an_instance_that_does_not_end_is_killed(several):
    running = several("fail", "5", "stubborn", options=("--grace", "0.1"))
    running.process.send_signal(signal.SIGUSR1)
    done = finish(running.process)
    assert done.returncode == 5
    assert "[1] received SIGTERM\n" in done.stdout
    assert done.stderr.endswith("corestream run: killing instance 1\n")
    running.instances_end()


def test_what_an_instance_started_ends_with_it(several):
    running = several("worker", options=("--grace", "0.1"))
    text = "".join(running.heard)
    workers = [os.pidfd_open(int(pid)) for pid in re.findall(r"worker (\d+)", text)]
    assert len(workers) == 2
    try:
        os.kill(running.pids[0], signal.SIGKILL)
        assert finish(running.process).returncode == 137
        for worker in workers:
            assert select.select([worker], [], [], LIMIT_S)[0]
    finally:
        for worker in workers:
            os.close(worker)


def test_nothing_is_left_when_the_launcher_is_killed(several):
    running = several("stubborn")
    running.process.kill()
    running.instances_end()


def test_a_success_ends_nobody(several):
    running = several("wait")
    os.kill(running.pids[0], signal.SIGTERM)
    assert running.read("received") == "[0] received SIGTERM\n"
    running.process.send_signal(signal.SIGUSR1)
    running.read("received SIGUSR1")
    running.process.send_signal(signal.SIGTERM)
    assert finish(running.process).returncode == 0


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        os.sched_yield()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_stopping_and_continuing(several):
    running = several("wait")
    pid = running.process.pid
    running.process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    wait_until(lambda: [state(instance) for instance in running.pids] == ["T", "T"])
    running.process.send_signal(signal.SIGCONT)
    assert "SIGCONT" in running.read("received")
    assert "SIGCONT" in running.read("received")
    running.process.send_signal(signal.SIGTERM)
    assert finish(running.process).returncode == 0


def test_what_the_launcher_was_told_to_ignore_is_ignored():
    """As under nohup(1)."""
    process = begin(
        "-n",
        "2",
        INSTANCE,
        "report",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    done = finish(process)
    found = re.findall(r'"ignored": "([0-9a-f]+)"', done.stdout)
    assert [int(mask, 16) & 1 << (signal.SIGHUP - 1) for mask in found] == [1, 1]


def become_subreaper() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def test_orphans_are_reaped_as_by_the_first_process_of_a_container():
    process = begin("-n", "2", INSTANCE, "orphan", preexec_fn=become_subreaper)
    lines = [process.stdout.readline() for _ in range(4)]
    orphans = [int(line.split()[-1]) for line in lines if "orphan" in line]
    assert len(orphans) == 2
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: not set(orphans) & set(map(int, children.read_text().split())))
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == 0


def test_children_of_the_calling_program_are_left_to_it():
    program = (
        "import subprocess\n"
        "from corestream.launch import InstancePlan, LaunchPlan, run_plan\n"
        "child = subprocess.Popen(['sh', '-c', 'exit 5'], stdout=subprocess.PIPE)\n"
        "child.stdout.read()\n"  # it ends
        "one = InstancePlan(\n"
        "    index=0, cpus=(0,), numa_nodes=(0,), argv=('true',), is_pinned=False)\n"
        "print(run_plan(LaunchPlan(instances=(one, one), num_planned=2, grace_s=1)))\n"
        "print(child.wait())\n"
    )
    assert run_code(program).stdout == "0\n5\n"


def test_logs_hold_what_each_instance_wrote(tmp_path):
    logs = tmp_path / "new" / "logs"
    program = "echo out $CORESTREAM_INSTANCE_INDEX; echo err >&2; printf unfinished"
    words = ("-n", "2", "--log-dir", str(logs), "--log-prefix", "run", "sh", "-c", program)
    done = launch(*words)
    assert sorted(done.stdout.splitlines()) == [
        "[0] out 0",
        "[0] unfinished",
        "[1] out 1",
        "[1] unfinished",
    ]
    assert sorted(done.stderr.splitlines()) == ["[0] err", "[1] err"]
    for index in range(2):
        lines = (logs / f"run-{index}.log").read_text().replace("unfinished", "").splitlines()
        assert sorted(lines) == ["err", f"out {index}"]
    launch(*words)
    assert (logs / "run-0.log").read_text().count("out 0") == 2  # appended


def test_a_single_instance_with_a_log_is_watched_over(tmp_path):
    done = launch("--log-dir", str(tmp_path), "sh", "-c", "echo plain; kill -9 $$")
    assert done.stdout == "plain\n"
    assert done.returncode == 137
    assert (tmp_path / "instance-0.log").read_text() == "plain\n"


def test_a_log_that_cannot_be_written_starts_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    marker = tmp_path / "marker"
    done = launch("--log-dir", str(tmp_path / "file"), "touch", str(marker))
    assert done.returncode == 125
    wanted = f"log_dir must be a folder to write to; got {str(tmp_path / 'file')!r}; File exists"
    assert done.stderr == f"corestream run: {wanted}\n"
    assert not marker.exists()


def test_a_full_disk_does_not_stop_an_instance(tmp_path):
    (tmp_path / "instance-0.log").symlink_to("/dev/full")
    done = launch("--log-dir", str(tmp_path), "sh", "-c", "echo goes on; exit 4")
    assert done.stdout == "goes on\n"
    assert done.returncode == 4
    assert "the log of instance 0 is incomplete: No space left on device" in done.stderr


def test_much_output_is_neither_lost_nor_mixed():
    program = (
        "import os; [print(os.environ['CORESTREAM_INSTANCE_INDEX'] * 99) for _ in range(5000)]"
    )
    done = launch("-n", "2", sys.executable, "-c", program)
    counts = {line: done.stdout.splitlines().count(line) for line in set(done.stdout.splitlines())}
    assert counts == {"[0] " + "0" * 99: 5000, "[1] " + "1" * 99: 5000}


def test_instances_learn_that_nobody_reads():
    """As in `corestream run ... | head -1`."""
    process = begin("-n", "2", "yes")
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=LIMIT_S) == 128 + signal.SIGPIPE


def test_what_outlives_an_instance_is_not_waited_for():
    program = "setsid sh -c 'read forever < /dev/zero' & echo $!"
    done = launch("-n", "2", "sh", "-c", program)
    assert done.returncode == 0
    for pid in re.findall(r"\d+$", done.stdout, re.M):
        os.kill(int(pid), signal.SIGKILL)
