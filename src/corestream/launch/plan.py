"""`make_plan`: what would be started, decided without starting or changing anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corestream.cpu.budget import CPUBudget
from corestream.cpu.cpu_set import format_cpu_list, parse_cpu_list
from corestream.cpu.machine import Topology
from corestream.launch.environment import EnvironmentChange, environment_notes, plan_environment
from corestream.launch.options import LaunchOptions
from corestream.launch.placement import place

_LONGEST_GRACE_S = 86400.0
"""A day; the kernel takes no infinity to wait for."""


@dataclass(frozen=True, kw_only=True)
class InstancePlan:
    """One process: where it runs, what it is started with, what its environment differs in.

    `cpus` are in the order of the pool; the mask is set only if `is_pinned`. `memory_nodes` is
    empty unless memory is to be bound. `log_path` is None where output goes to the terminal only.

    Example:
        >>> instance = InstancePlan(index=0, cpus=(0, 1), numa_nodes=(0,), argv=("python", "a.py"))
        >>> instance.environ({"HOME": "/root"})
        {'HOME': '/root'}

    Thread-safe: a value that never changes; holds the GIL.
    """

    index: int
    cpus: tuple[int, ...]
    numa_nodes: tuple[int, ...]
    argv: tuple[str, ...]
    changes: tuple[EnvironmentChange, ...] = ()
    is_pinned: bool = True
    memory_nodes: tuple[int, ...] = ()
    log_path: str | None = None

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the instance's environment.

        Args:
            environ: The launcher's own; it is copied.
        """
        return dict(environ) | {change.name: change.value for change in self.changes}


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """What would be started: the instances, and in words what is worth knowing about them.

    `num_planned` counts the instances that were placed, of which `instances` may be a part.

    Example:
        >>> plan = LaunchPlan(instances=(), num_planned=0, grace_s=10.0)
        >>> plan.in_place
        False

    Thread-safe: a value that never changes; holds the GIL.
    """

    instances: tuple[InstancePlan, ...]
    num_planned: int
    grace_s: float
    notes: tuple[str, ...] = ()

    @property
    def in_place(self) -> bool:
        """Whether the launcher turns into the only instance, or stays to watch over several."""
        return len(self.instances) == 1 and self.instances[0].log_path is None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs of every instance."""
        return tuple(cpu for instance in self.instances for cpu in instance.cpus)

    def notices(self) -> list[str]:
        """Return the lines that a user should see: notes, and what became of their variables."""
        lines = list(self.notes)
        for instance in self.instances:
            for change in instance.changes:
                if change.previous is not None:
                    lines.append(str(change))
        return list(dict.fromkeys(lines))  # the same variable of several instances: one line

    def to_json(self) -> dict[str, Any]:
        """Return the plan as what `json.dumps` takes; CPUs as CPU lists."""
        return {
            "instances": [
                asdict(instance)
                | {
                    "cpus": format_cpu_list(instance.cpus),
                    "changes": [asdict(c) | {"action": c.action} for c in instance.changes],
                }
                for instance in self.instances
            ],
            "num_planned": self.num_planned,
            "in_place": self.in_place,
            "grace_s": self.grace_s,
            "notes": list(self.notes),
        }


def make_plan(
    options: LaunchOptions,
    *,
    topology: Topology,
    budget: CPUBudget,
    environ: Mapping[str, str],
    allocator_path: str | None = None,
) -> LaunchPlan:
    """Return what would be started; a pure function of what it is given.

    Args:
        options: What is asked.
        topology: The machine.
        budget: The CPUs that may be used and how many of them, as from `cpu_budget()`.
        environ: The user's environment variables.
        allocator_path: The library of `options.allocator`, as from `find_allocator`.

    Returns:
        Instances with disjoint CPUs, all of them allowed.

    Raises:
        ValueError: The options contradict each other or the machine.
        TypeError: The command is one string: no shell takes it apart.

    Example:
        >>> from corestream.cpu import CPUBudget, CPUSet, Topology
        >>> cpus = CPUSet.parse("0-7")
        >>> budget = CPUBudget(count=8, allowed=cpus, quota=None, reasons=())
        >>> options = LaunchOptions(command=("serve.py",), instances=2)
        >>> plan = make_plan(options, topology=Topology.flat(cpus), budget=budget, environ={})
        >>> [instance.cpus for instance in plan.instances]
        [(0, 1, 2, 3), (4, 5, 6, 7)]

    Thread-safe: touches no shared state; holds the GIL.
    """
    _check(options)
    placement = place(options, topology=topology, budget=budget)
    chosen = _chosen_indices(options, len(placement.parts))
    # Output that passes through a pipe is kept back by Python until there are 8 KiB of it.
    is_piped = len(chosen) > 1 or options.log_dir is not None
    argv = _argv(options, is_unbuffered=is_piped)
    instances = []
    for index in chosen:
        cpus = placement.parts[index]
        nodes = {topology.locality(cpu)[1] for cpu in cpus} - {-1}
        instances.append(
            InstancePlan(
                index=index,
                cpus=cpus,
                numa_nodes=tuple(sorted(nodes)),
                argv=argv,
                changes=plan_environment(
                    options,
                    num_cpus=len(cpus),
                    index=index,
                    num_planned=len(placement.parts),
                    environ=environ,
                    allocator_path=allocator_path,
                ),
                is_pinned=options.pin,
                memory_nodes=tuple(sorted(nodes)) if options.membind else (),
                log_path=_log_path(options, index),
            )
        )
    most = max(len(instance.cpus) for instance in instances)
    return LaunchPlan(
        instances=tuple(instances),
        num_planned=len(placement.parts),
        grace_s=options.grace_s,
        notes=(*placement.notes, *environment_notes(options, num_cpus=most, environ=environ)),
    )


def _check(options: LaunchOptions) -> None:
    words: object = options.command
    if isinstance(words, str):
        raise TypeError(
            f"command must be a tuple of words; got {words!r}; write ('serve.py', '--port', '80')"
        )
    if not options.command or not options.command[0]:
        raise ValueError("command must name a program; got none; write it after the options")
    if options.module and options.no_python:
        raise ValueError(
            "module must be without no_python; got both; a module is always run by Python"
        )
    if not 0 <= options.grace_s <= _LONGEST_GRACE_S:  # nor is a NaN
        raise ValueError(
            f"grace_s must be from 0 to {_LONGEST_GRACE_S:.0f}; got {options.grace_s!r}; "
            "0 kills at once"
        )
    if options.spin_count is not None and options.spin_count < 0:
        raise ValueError(
            f"spin_count must be at least 0; got {options.spin_count!r}; 0 sleeps at once"
        )
    if options.log_dir == "":
        raise ValueError("log_dir must name a folder; got ''; write . for this one")
    if "/" in options.log_prefix or not options.log_prefix:
        raise ValueError(
            f"log_prefix must be the beginning of a file name; got {options.log_prefix!r}; "
            "name the folder with log_dir"
        )


def _chosen_indices(options: LaunchOptions, num_planned: int) -> list[int]:
    if options.instance_index is None:
        return list(range(num_planned))
    chosen = sorted(set(parse_cpu_list(options.instance_index, parameter="instance_index")))
    if chosen[-1] >= num_planned:
        raise ValueError(
            f"instance_index must be from 0 to {num_planned - 1}, the last of {num_planned} "
            f"instances; got {options.instance_index!r}; count instances from 0"
        )
    return chosen


def _argv(options: LaunchOptions, *, is_unbuffered: bool) -> tuple[str, ...]:
    python = (sys.executable, "-u") if is_unbuffered else (sys.executable,)
    if options.module:
        return (*python, "-m", *options.command)
    if options.command[0].endswith(".py") and not options.no_python:
        return (*python, *options.command)
    return tuple(options.command)


def _log_path(options: LaunchOptions, index: int) -> str | None:
    if options.log_dir is None:
        return None
    return str(Path(options.log_dir, f"{options.log_prefix}-{index}.log"))
