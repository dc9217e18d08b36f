"""`diagnose()`: collect, judge, hand over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from corestream.cpu.topology import check_root, is_live
from corestream.doctor.checks import examine
from corestream.doctor.diagnosis import Diagnosis
from corestream.doctor.facts import Facts, ProcessFacts
from corestream.doctor.fresh import run_fresh
from corestream.doctor.machine_facts import read_machine
from corestream.doctor.process_facts import read_process, watch
from corestream.doctor.service_facts import read_service
from corestream.doctor.torch_facts import torch_facts
from corestream.doctor.variables import relevant

Process = Literal["own", "fresh"] | int


def diagnose(
    root: str | os.PathLike[str] = "/",
    *,
    process: Process = "own",
    probe: bool = False,
    num_workers: int | None = None,
    window_s: float = 0.2,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Diagnosis:
    """Look at the machine, at a process and at torch in it, and say what is wrong and what to do.

    Nothing is changed: no mask, no variable, no thread count. In a running service the call shows
    its streams, the teams that idle beside them, and whether a fork would be safe.

    Args:
        root: The folder that stands for `/`; `python -m corestream.cpu gather DIR` makes one.
        process: `"own"` looks at the calling process, a number at the process of that id, and
            `"fresh"` at a new one that imports torch under this process's environment.
        probe: Time a matrix product in fp32, bf16, fp16 and int8, in a fresh process; 2 s.
        num_workers: How many such processes will share the CPUs; None finds out, if it can.
        window_s: How long to watch the threads of a live process, in seconds; 0 does not.
        on_stage: Called with a word at each stage of the fresh process.

    Returns:
        The findings; `print()` shows them as the command line does.

    Raises:
        ValueError: `root` holds no machine, there is no process of that id, something is to be
            started in a copy of a machine, or `num_workers` or `window_s` are out of range.

    Example:
        >>> import corestream.doctor
        >>> diagnosis = corestream.doctor.diagnose()
        >>> diagnosis.finding("CPU quota").title
        'CPU quota'

    Thread-safe; holds the GIL, except inside the reads and while it waits.
    """
    _check(root, process=process, probe=probe, num_workers=num_workers, window_s=window_s)
    if isinstance(process, int):
        facts = _facts_of_live(root, process, window_s=window_s)
    elif process == "own" and is_live(root):
        facts = _facts_of_own(window_s=window_s)
    else:
        facts = Facts(machine=read_machine(root), process=_stored_process(root))
    if probe or process == "fresh":
        facts = _add_fresh(facts, probe=probe, is_subject=process == "fresh", on_stage=on_stage)
    facts = replace(facts, num_workers=num_workers)
    return Diagnosis(subject=_subject(root, facts), findings=examine(facts), facts=facts)


def _check(
    root: str | os.PathLike[str],
    *,
    process: Process,
    probe: bool,
    num_workers: int | None,
    window_s: float,
) -> None:
    if num_workers is not None and num_workers < 1:
        raise ValueError(
            f"num_workers must be at least 1; got {num_workers!r}; leave it out if unknown"
        )
    if window_s < 0:
        raise ValueError(f"window_s must be at least 0; got {window_s!r}; 0 does not watch")
    if isinstance(process, str) and process not in ("own", "fresh"):
        raise ValueError(f"process must be 'own', 'fresh' or an id; got {process!r}; see the help")
    if process == "fresh" and not is_live(root):
        raise ValueError(
            f"process must be 'own' or an id for a copy of a machine; got 'fresh' with root "
            f"{os.fspath(root)!r}; nothing can be started there"
        )
    if probe and not is_live(root):
        raise ValueError(
            f"probe must be False for a copy of a machine; got True with root "
            f"{os.fspath(root)!r}; nothing can be timed there"
        )
    check_root(root)


def _stored_process(root: str | os.PathLike[str]) -> ProcessFacts:
    """The process that a copied machine was seen from."""
    return read_process(root, "self") or ProcessFacts(kind="live")


def _facts_of_live(root: str | os.PathLike[str], number: int, *, window_s: float) -> Facts:
    found = read_process(root, number)
    if found is None:
        raise ValueError(
            f"process must be the id of a running process; got {number}; "
            f"look with ps, inside the same container"
        )
    if is_live(root) and window_s > 0:
        found = replace(found, threads=watch(root, found, window_s=window_s))
    return Facts(
        machine=read_machine(root, process_id=number),
        process=found,
        torch_absence="another process's torch cannot be asked",
        products_absence="not measured (--probe does, in a fresh process)",
    )


def _facts_of_own(*, window_s: float) -> Facts:
    found = read_process("/", "self") or ProcessFacts(kind="own")
    if window_s > 0 and found.process_id is not None:
        found = replace(found, threads=watch("/", found, window_s=window_s))
    torch = sys.modules.get("torch")
    return Facts(
        machine=read_machine("/"),
        # What the process started with stands in /proc; what counts is what it has set since.
        process=replace(found, kind="own", environ=relevant(os.environ)),
        torch=None if torch is None else torch_facts(torch),
        torch_absence="torch is not loaded in this process",
        service=read_service(),
        products_absence="not measured (probe=True does)",
    )


def _add_fresh(
    facts: Facts, *, probe: bool, is_subject: bool, on_stage: Callable[[str], None]
) -> Facts:
    fresh = run_fresh(products=probe, on_stage=on_stage)
    facts = replace(
        facts,
        products=fresh.products,
        products_absence=fresh.products_absence,
        products_died=fresh.products_died,
    )
    if not is_subject:
        return facts
    return replace(
        facts,
        process=fresh.process,
        torch=fresh.torch,
        torch_absence=fresh.absence,
        torch_died=fresh.died,
        team=fresh.team,
        service=None,
    )


def _subject(root: str | os.PathLike[str], facts: Facts) -> str:
    process = facts.process
    if process.kind == "fresh":
        return "a fresh process that imports torch under this environment"
    where = "" if is_live(root) else f" of the machine in {os.fspath(root)}"
    if process.kind == "own":
        return f"this process, {process.process_id}"
    if process.process_id:
        return f"process {process.process_id} ({' '.join(process.command)[:60]}){where}"
    return f"the machine in {os.fspath(root)}"
