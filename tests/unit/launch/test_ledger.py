"""The ledger: disjoint cores without coordination, free again however their owner ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from corestream.cpu import CPUSet
from corestream.errors import CoresTaken
from corestream.launch import claim_cores
from corestream.launch import ledger as ledger_module
from corestream.launch.claims import lock_folder, start_time, write_claim
from corestream.launch.ledger import FOLDER_VARIABLE, ledger_folder, open_ledger
from tests.unit.launch.machines import Known, flat, machine, with_quota

PROGRAM = Path(__file__).parent / "ledger_program.py"


class Starter:
    """A process that claims cores without knowing of the others."""

    def __init__(self, folder: Path, *, num_cpus: int, cores: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), str(num_cpus), str(cores)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """End of itself, as it reads no more."""
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def starters() -> Iterator[list[Starter]]:
    found: list[Starter] = []
    yield found
    for starter in found:
        starter.kill()
        starter.process.stdin.close()
        starter.process.stdout.close()


def claimed(folder: Path) -> CPUSet:
    with open_ledger(folder) as ledger:
        return ledger.claimed()


def claim(known: Known, n: int, folder: Path, **more):
    return claim_cores(n, budget=known.budget, topology=known.topology, folder=folder, **more)


def start(starters: list[Starter], folder: Path, **asked: int) -> Starter:
    starters.append(Starter(folder, **asked))
    return starters[-1]


def test_four_starters_without_coordination_take_disjoint_cores(tmp_path, starters):
    for _ in range(4):
        start(starters, tmp_path, num_cpus=16, cores=4)
    for starter in starters:
        starter.tell("go")
    taken = [CPUSet(map(int, starter.answer().split())) for starter in starters]
    assert [len(cpus) for cpus in taken] == [4, 4, 4, 4]
    assert taken[0] | taken[1] | taken[2] | taken[3] == CPUSet(range(16))

    late = start(starters, tmp_path, num_cpus=16, cores=1)
    assert late.ask("go").startswith("taken: a core must be free; got 0-15 claimed of")

    starters[2].kill()
    again = start(starters, tmp_path, num_cpus=16, cores=4)
    assert CPUSet(map(int, again.ask("go").split())) == taken[2]


@pytest.mark.parametrize("end", ["killed", "released", "left"])
def test_a_forked_child_does_not_keep_its_parents_cores(tmp_path, starters, end):
    starter = start(starters, tmp_path, num_cpus=4, cores=4)
    starter.ask("go")
    child = int(starter.ask("fork"))  # it has the lock's file open for as long as it lives
    try:
        assert claimed(tmp_path) == CPUSet(range(4))
        if end == "released":
            assert starter.ask("release") == "released"
        elif end == "killed":
            starter.kill()
        else:
            starter.leave()
        assert claimed(tmp_path) == CPUSet()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(("is_kept", "held"), [(True, "0-1"), (False, "")])
def test_a_program_that_the_owner_turns_into(tmp_path, starters, is_kept, held):
    starter = start(starters, tmp_path, num_cpus=2, cores=2)
    starter.ask("go")
    if is_kept:
        assert starter.ask("keep") == "kept"
    assert starter.ask("exec") == "another program"
    assert str(claimed(tmp_path)) == held
    starter.kill()
    assert claimed(tmp_path) == CPUSet()


def test_a_lease_is_held_until_it_is_released(tmp_path):
    known = flat(4)
    with claim(known, 3, tmp_path) as lease:
        assert lease.core_ids == [0, 1, 2]
        assert lease.is_held
        assert repr(lease) == "<Lease of CPUs 0-2, held>"
        with pytest.raises(CoresTaken, match=r"2 cores must be free; got 1 \(claimed by others: 0"):
            claim(known, 2, tmp_path)
        assert claim(known, 1, tmp_path).core_ids == [3]  # dropped, and still held
        with pytest.raises(CoresTaken, match="a core must be free; got 0-3 claimed"):
            claim(known, 1, tmp_path)
    assert not lease.is_held
    lease.release()
    assert str(claimed(tmp_path)) == "3"


def test_a_lease_ends_with_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), claim(flat(2), 2, tmp_path):
        raise ZeroDivisionError
    assert claimed(tmp_path) == CPUSet()


def test_waiting_for_cores(tmp_path):
    known, found = flat(2), []
    lease = claim(known, 2, tmp_path)
    waiter = threading.Thread(
        target=lambda: found.append(claim(known, 1, tmp_path, timeout_s=60).core_ids)
    )
    waiter.start()
    lease.release()
    waiter.join()
    assert found == [[0]]
    with pytest.raises(CoresTaken):
        claim(known, 2, tmp_path, timeout_s=0.01)


def test_threads_of_one_process_take_disjoint_cores(tmp_path):
    known, leases = flat(16), []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        leases.append(claim(known, 2, tmp_path))

    threads = [threading.Thread(target=work) for _ in range(8)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for lease in leases:
            stack.enter_context(lease)
        assert sorted(cpu for lease in leases for cpu in lease.core_ids) == list(range(16))


def test_siblings_of_a_claimed_cpu_are_claimed_too(tmp_path):
    known = machine("repeated core ids")  # CPUs 0 and 1 are one core, 2 and 3 the next
    with ExitStack() as stack:
        leases = [stack.enter_context(claim(known, 2, tmp_path)) for _ in range(4)]
        cpus = [cpu for lease in leases for cpu in lease.core_ids]
        assert sorted(cpus) == [0, 2, 4, 6, 8, 10, 12, 14]
        with pytest.raises(CoresTaken):
            claim(known, 1, tmp_path)


def test_cores_of_a_claim_lie_close_together(tmp_path):
    known = machine("1 package, 4 nodes")
    with claim(known, 2, tmp_path) as first, claim(known, 5, tmp_path) as second:
        assert first.core_ids == [0, 1]
        assert second.core_ids == [6, 7, 8, 9, 10]  # four are free in node 0
        with claim(known, 4, tmp_path) as third:
            assert third.core_ids == [2, 3, 4, 5]


def test_efficient_cores_are_not_claimed_when_the_others_are_gone(tmp_path):
    known = machine("hybrid")
    with claim(known, 6, tmp_path), pytest.raises(CoresTaken):
        claim(known, 1, tmp_path)


def test_the_quota_is_shared(tmp_path):
    known = with_quota(flat(16), 4)
    with claim(known, 3, tmp_path), pytest.raises(CoresTaken, match="2 cores must be free; got 1"):
        claim(known, 2, tmp_path)
    with pytest.raises(ValueError, match="n must be from 1 to the 4 cores"):
        claim(known, 5, tmp_path)


def test_other_cpusets_see_what_concerns_them(tmp_path):
    known = flat(8)
    with open_ledger(tmp_path) as ledger, ledger.claim(range(6, 12)):
        left = ledger.remaining(known.budget, topology=known.topology)
        assert str(left.allowed) == "0-5"
        assert left.count == 6
        assert left.reasons[-1] == "claimed by others: 6-11, leaving 6"


def change_record(path: Path, **changes: object) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))


@pytest.fixture
def held(tmp_path) -> Iterator[Path]:
    """The file of a claim on CPU 0 whose lock is held."""
    descriptor, path = write_claim(tmp_path, CPUSet([0]), is_shared=False)
    yield path
    os.close(descriptor)


def test_a_process_id_that_is_used_again_is_not_the_owner(tmp_path, held):
    change_record(held, start_time=start_time(os.getpid()) - 1)
    assert claimed(tmp_path) == CPUSet()
    assert not held.exists()


def test_in_another_pid_namespace_only_the_lock_counts(tmp_path, held):
    change_record(held, pid=2**22 + 1, pid_namespace="pid:[1]")
    assert claimed(tmp_path) == CPUSet([0])


def test_without_procfs_only_the_lock_counts(tmp_path, held):
    change_record(held, pid=os.getpid(), start_time=None)
    assert claimed(tmp_path) == CPUSet([0])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cpus": "x"}', '{"cpus": "0", "pid": null}'])
def test_damaged_files_are_ignored(tmp_path, held, text):
    held.write_text(text)
    assert claimed(tmp_path) == CPUSet()


def test_files_that_nobody_holds_are_removed(tmp_path):
    descriptor, path = write_claim(tmp_path, CPUSet([0]), is_shared=False)
    os.close(descriptor)  # as a crash does
    (tmp_path / "claim-link").symlink_to("/etc/passwd")
    (tmp_path / "unrelated").write_text("stays")
    assert claimed(tmp_path) == CPUSet()
    assert {p.name for p in tmp_path.iterdir()} == {"lock", "unrelated"}
    assert not path.exists()


def test_what_was_claimed_for_this_process_can_be_divided(tmp_path):
    """`corestream run --slice auto` claims for its program, whose workers claim from that."""
    with open_ledger(tmp_path) as ledger:
        lease = ledger.claim([0, 1], is_shared=True)
    with lease:
        assert claimed(tmp_path) == CPUSet()
        with claim(flat(2), 1, tmp_path), claim(flat(2), 1, tmp_path):
            assert claimed(tmp_path) == CPUSet([0, 1])
    program = "import sys; from corestream.launch.ledger import open_ledger as o\n"
    program += f"with o({str(tmp_path)!r}) as ledger: print(ledger.claimed())"
    run = [sys.executable, "-c", program]
    with open_ledger(tmp_path) as ledger:
        lease = ledger.claim([0, 1], is_shared=True)
    with lease:
        below = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
        assert below.stdout == "\n"
        for path in tmp_path.glob("claim-*"):
            change_record(path, pid=1, start_time=None)
        change_record(path, pid=2**22 + 1)  # neither this process nor one above it
        other = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
        assert other.stdout == "0-1\n"


def test_a_process_that_stays_in_the_ledger_is_named(tmp_path):
    expected = "lock must be free within 0.05 s; another process holds it, see fuser"
    with (
        lock_folder(tmp_path),
        pytest.raises(TimeoutError, match=expected),
        lock_folder(tmp_path, timeout_s=0.05),
    ):
        pass


def test_the_folder_is_this_users(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    path = tmp_path / "corestream-0"
    monkeypatch.setattr(ledger_module, "ledger_folder", lambda: path)
    with open_ledger():
        assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o777)
    with pytest.raises(PermissionError, match="must be a folder that only this user can write"):
        claim_cores(1)
    path.chmod(0o700)
    target = path.rename(tmp_path / "elsewhere")
    path.symlink_to(target)
    with pytest.raises(PermissionError, match="name another in CORESTREAM_LEDGER_DIR"):
        claim_cores(1)


def test_where_the_ledger_lies(tmp_path, monkeypatch):
    assert ledger_folder({FOLDER_VARIABLE: "/shared"}) == Path("/shared")
    name = f"corestream-{os.geteuid()}"
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/dev/shm")
    assert ledger_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / name
    assert ledger_folder({}) == Path("/tmp", name)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert ledger_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == Path("/dev/shm", name)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileNotFoundError, match="CORESTREAM_LEDGER_DIR must name a folder"):
        ledger_folder({})


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    expected = (
        r"^CORESTREAM_LEDGER_DIR must be a folder that can be made; got '.*/file'; File exists$"
    )
    with pytest.raises(FileExistsError, match=expected):
        claim_cores(1)


@pytest.mark.parametrize("n", [0, -1, 5])
def test_impossible_numbers_are_refused(tmp_path, n):
    with pytest.raises(ValueError, match="n must be from 1 to the 4 cores"):
        claim(flat(4), n, tmp_path)
