"""Starting the fresh process that imports torch, and reading what it saw."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corestream.cpu.allowed import startup_affinity
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.openmp import OPENMP_NAMES
from corestream.doctor.child import MARK
from corestream.doctor.facts import ProcessFacts, Product, TeamFacts, TorchFacts
from corestream.doctor.process_facts import ALLOCATOR_NAMES, mapped_libraries, missing_preloads
from corestream.doctor.variables import relevant

IMPORT_LIMIT_S = 120.0
"""For the import: a cold cache on a network file system takes a minute."""

STAGE_LIMIT_S = 30.0
"""For every later stage, each of which takes a second or two."""

# Appended, so that it hides nothing: a source tree that was put on the path by hand.
_PROGRAM = "import sys; sys.path.append({path!r}); from corestream.doctor.child import look; look()"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshRun:
    """What a fresh process showed."""

    process: ProcessFacts
    torch: TorchFacts | None = None
    absence: str = ""
    died: bool = False
    team: TeamFacts | None = None
    products: Mapping[str, Product] | None = None
    products_absence: str = "not measured"
    products_died: bool = False


@dataclass
class _Stages:
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_words: list[str] = field(default_factory=list)
    end: str = ""
    """How the process ended, if not by itself."""


def run_fresh(
    *,
    products: bool,
    environ: Mapping[str, str] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> FreshRun:
    """Start a process that imports torch and return what it showed; never raises on torch's part.

    Args:
        products: Time the matrix products too.
        environ: Its environment; this process's by default.
        on_stage: Called with the name of each stage that was reached.
    """
    variables = dict(os.environ if environ is None else environ)
    program = _PROGRAM.format(path=str(Path(__file__).parents[2]))
    command = [sys.executable, "-P", "-c", program, str(startup_affinity())]
    command += ["--products"] if products else []
    stages = _run(command, variables, on_stage)
    return _read(stages, variables, products=products)


def _run(command: list[str], variables: dict[str, str], on_stage: Callable[[str], None]) -> _Stages:
    stages = _Stages()
    process = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            if not _listen(process, stages, on_stage):
                stages.end = f"hung for {STAGE_LIMIT_S:.0f} s or more"
        finally:
            process.kill()
    if not stages.end and process.returncode:
        stages.end = _how_it_ended(process.returncode)
    return stages


def _listen(
    process: subprocess.Popen[bytes], stages: _Stages, on_stage: Callable[[str], None]
) -> bool:
    """Read lines until the end; False if none came for too long."""
    pipe = process.stdout
    if pipe is None:
        return True
    deadline = time.monotonic() + IMPORT_LIMIT_S
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
            data = os.read(pipe.fileno(), 1 << 16)
            if not data:
                process.wait()
                return True
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                stage = _take(line.decode(errors="replace"), stages)
                if stage:
                    on_stage(stage)
                if stage in ("torch", "team"):
                    deadline = time.monotonic() + STAGE_LIMIT_S


def _take(line: str, stages: _Stages) -> str | None:
    if not line.startswith(MARK):
        stages.last_words = [*stages.last_words[-3:], line.strip()]
        return None
    fields: dict[str, Any] = json.loads(line.removeprefix(MARK))
    stage: str = fields.pop("stage")
    stages.seen[stage] = fields
    return stage


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        # Real-time signals have numbers, but no names.
        names = {known.value: known.name for known in signal.Signals}
        return f"was ended by {names.get(-returncode, f'signal {-returncode}')}"
    return f"ended with status {returncode}"


def _read(stages: _Stages, variables: dict[str, str], *, products: bool) -> FreshRun:
    before, found = stages.seen.get("before", {}), stages.seen.get("torch", {})
    maps = found.get("maps") or None
    team = stages.seen.get("team")
    last = team or found or before
    process = ProcessFacts(
        kind="fresh",
        environ=relevant(variables),
        mask=_cpus(last.get("mask")),
        mask_before=_cpus(before.get("mask")),
        openmp_runtimes=None if maps is None else mapped_libraries(maps, OPENMP_NAMES),
        allocators=None if maps is None else mapped_libraries(maps, ALLOCATOR_NAMES),
        missing_preloads=missing_preloads(variables),
    )
    end = " ".join([stages.end or "ended early", *stages.last_words]).strip()
    absent = stages.seen.get("absent")
    if not found:
        reason = absent["reason"] if absent else end
        return FreshRun(process=process, absence=reason, died=absent is None)
    times = stages.seen.get("products", {}).get("products")
    return FreshRun(
        process=process,
        torch=TorchFacts(**found["torch"]),
        team=TeamFacts(**team["team"]) if team else TeamFacts(size=None, failure=end),
        products=None if times is None else {k: Product(**v) for k, v in times.items()},
        products_absence=f"a fresh process {end}" if products else "not measured (--no-probe)",
        products_died=products and times is None,
    )


def _cpus(ids: list[int] | None) -> CPUSet | None:
    return None if ids is None else CPUSet(ids)
