"""Runs stock PyTorch models on CPUs: pinned core pools, tasks, one model on many streams.

Every name here is loaded on first use, so that ``import corestream.cpu`` and the launcher
never load torch. The threads and masks of a process change only when a pool is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corestream.cpu.allowed import allowed_cpus
    from corestream.cpu.budget import cpu_budget
    from corestream.cpu.cpu_set import CPUSet
    from corestream.cpu.pool import CPUPool, get_core_list_of_node_id
    from corestream.cpu.topology import topology
    from corestream.lowering.api import lower
    from corestream.lowering.model import LoweredModule
    from corestream.lowering.saved import load
    from corestream.optimization.api import optimize
    from corestream.runtime.executor import TaskExecutor
    from corestream.runtime.future import Future
    from corestream.runtime.hints import MultiStreamModuleHint
    from corestream.runtime.info import is_runtime_ext_enabled, runtime_info
    from corestream.runtime.interop import set_num_interop_threads
    from corestream.runtime.pin import pin
    from corestream.runtime.streams import MultiStreamModule, get_default_num_streams
    from corestream.runtime.task import Task
    from corestream.runtime.teams import release_idle_team
    from corestream.tuning.api import tune

__version__ = "0.1.0"

_HOME = {
    "CPUPool": "cpu.pool",
    "CPUSet": "cpu.cpu_set",
    "Future": "runtime.future",
    "LoweredModule": "lowering.model",
    "MultiStreamModule": "runtime.streams",
    "MultiStreamModuleHint": "runtime.hints",
    "Task": "runtime.task",
    "TaskExecutor": "runtime.executor",
    "allowed_cpus": "cpu.allowed",
    "cpu_budget": "cpu.budget",
    "get_core_list_of_node_id": "cpu.pool",
    "get_default_num_streams": "runtime.streams",
    "is_runtime_ext_enabled": "runtime.info",
    "load": "lowering.saved",
    "lower": "lowering.api",
    "optimize": "optimization.api",
    "pin": "runtime.pin",
    "release_idle_team": "runtime.teams",
    "runtime_info": "runtime.info",
    "set_num_interop_threads": "runtime.interop",
    "topology": "cpu.topology",
    "tune": "tuning.api",
}

__all__ = [
    "CPUPool",
    "CPUSet",
    "Future",
    "LoweredModule",
    "MultiStreamModule",
    "MultiStreamModuleHint",
    "Task",
    "TaskExecutor",
    "allowed_cpus",
    "cmake_prefix_path",
    "cpu_budget",
    "get_core_list_of_node_id",
    "get_default_num_streams",
    "is_runtime_ext_enabled",
    "load",
    "lower",
    "optimize",
    "pin",
    "release_idle_team",
    "runtime_info",
    "set_num_interop_threads",
    "topology",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "cmake_prefix_path":
        return f"{__path__[0]}/cmake"
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    # The package's own `topology` attribute must not hide behind a lookup at every use.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


cmake_prefix_path: str
