"""Owning cores and running work on them: pin, tasks, executors, streams."""

from __future__ import annotations

from corestream.runtime.executor import TaskExecutor
from corestream.runtime.future import Future
from corestream.runtime.hints import MultiStreamModuleHint
from corestream.runtime.info import is_runtime_ext_enabled, runtime_info
from corestream.runtime.pin import pin
from corestream.runtime.streams import MultiStreamModule, get_default_num_streams
from corestream.runtime.task import Task
from corestream.runtime.teams import release_idle_team

__all__ = [
    "Future",
    "MultiStreamModule",
    "MultiStreamModuleHint",
    "Task",
    "TaskExecutor",
    "get_default_num_streams",
    "is_runtime_ext_enabled",
    "pin",
    "release_idle_team",
    "runtime_info",
]
