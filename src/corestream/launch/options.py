"""What can be asked of the launcher: declared once, for Python and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Allocator = Literal["default", "jemalloc", "tcmalloc"]
Strategy = Literal["close", "scatter"]
WaitPolicy = Literal["default", "passive", "active"]

_PLACEMENT = "CPUs"
_ENVIRONMENT = "Environment"
_PROGRAM = "Program"
_OUTPUT = "Output and end"


@dataclass(frozen=True, slots=True)
class Offer:
    """What makes a field of the options an option of `corestream run`.

    `flags` are its names there, if not the field's own; `panel` is the heading under which the
    help lists it, `metavar` what the help shows for the value.
    """

    help: str
    flags: tuple[str, ...] = ()
    panel: str = _PLACEMENT
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What is asked of the launcher; a value that never changes.

    `command` is the program and its arguments, word by word. Every field is an option of
    `corestream run`, under its own name unless the field says otherwise.

    Example:
        >>> LaunchOptions(command=("serve.py", "--port", "80"), instances=2).instances
        2

    Thread-safe: a value that never changes; holds the GIL.
    """

    command: tuple[str, ...]

    instances: Annotated[
        int | None,
        Offer(
            "How many processes to start; 1 unless another option decides.",
            flags=("--instances", "-n"),
            metavar="N",
        ),
    ] = None
    cores_per_instance: Annotated[
        int | None,
        Offer(
            "Cores of each instance; all are used, in nearly equal parts, without it.",
            flags=("--cores-per-instance", "-c"),
            metavar="K",
        ),
    ] = None
    latency_mode: Annotated[
        bool,
        Offer("As many instances of 4 cores as there is room for."),
    ] = False
    throughput_mode: Annotated[bool, Offer("One instance per NUMA node.")] = False
    node: Annotated[str | None, Offer("Only these NUMA nodes, such as 0,2-3.", metavar="LIST")] = (
        None
    )
    cpus: Annotated[
        str | None,
        Offer(
            "Exactly these CPUs, in this order, SMT siblings, efficient cores and more than the "
            "quota included.",
            metavar="LIST",
        ),
    ] = None
    slice: Annotated[
        str | None,
        Offer(
            "i/n: only the i-th of n equal shares, counted from 0, for starters that agree on n. "
            "auto: cores that no other starter of this user has, by a ledger.",
            metavar="i/n|auto",
        ),
    ] = None
    instance_index: Annotated[
        str | None,
        Offer("Start only these of the planned instances, such as 0,2-3.", metavar="LIST"),
    ] = None
    strategy: Annotated[
        Strategy,
        Offer(
            "Where instances go that do not fill the machine: next to each other, or one NUMA node "
            "and L3 domain after the other.",
        ),
    ] = "close"
    smt: Annotated[bool, Offer("Take the SMT siblings of each core, too.")] = False
    efficient_cores: Annotated[
        bool,
        Offer("Take the efficient cores of a hybrid machine, too."),
    ] = False
    pin: Annotated[
        bool,
        Offer(
            "Give each instance the mask of its CPUs; --no-pin only counts them.",
            flags=("--pin/--no-pin",),
        ),
    ] = True
    membind: Annotated[
        bool,
        Offer("Take memory from the NUMA nodes of the CPUs only, where the kernel permits."),
    ] = False

    wait: Annotated[
        WaitPolicy,
        Offer(
            "How OpenMP threads wait for work: passive sleeps at once, active spins.",
            panel=_ENVIRONMENT,
        ),
    ] = "default"
    spin_count: Annotated[
        int | None,
        Offer(
            "How many turns libgomp spins before it sleeps (GOMP_SPINCOUNT).",
            panel=_ENVIRONMENT,
            metavar="TURNS",
        ),
    ] = None
    allocator: Annotated[Allocator, Offer("Preload this memory allocator.", panel=_ENVIRONMENT)] = (
        "default"
    )

    module: Annotated[
        bool,
        Offer(
            "The program is a Python module, as in python -m.",
            flags=("--module", "-m"),
            panel=_PROGRAM,
        ),
    ] = False
    no_python: Annotated[
        bool, Offer("Execute the program itself, even if its name ends in .py.", panel=_PROGRAM)
    ] = False

    log_dir: Annotated[
        str | None,
        Offer(
            "Append the output of each instance to a file of its own in this folder, too.",
            panel=_OUTPUT,
            metavar="DIR",
        ),
    ] = None
    log_prefix: Annotated[
        str, Offer("Beginning of the names of these files.", panel=_OUTPUT, metavar="NAME")
    ] = "instance"
    grace_s: Annotated[
        float,
        Offer(
            "Time between SIGTERM and SIGKILL for the others, after one instance has failed.",
            flags=("--grace",),
            panel=_OUTPUT,
            metavar="SECONDS",
        ),
    ] = 10.0
