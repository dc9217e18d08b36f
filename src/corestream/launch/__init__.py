"""Starting programs on cores of their own. Never loads torch.

`make_plan` decides what would be started, without doing anything; `run_plan` does it. The ledger
gives cores to processes that start without knowing of each other.
"""

from __future__ import annotations

from corestream.launch.allocator import find_allocator
from corestream.launch.environment import EnvironmentChange
from corestream.launch.ledger import Lease, claim_cores
from corestream.launch.options import LaunchOptions
from corestream.launch.plan import InstancePlan, LaunchPlan, make_plan
from corestream.launch.runner import run_plan

__all__ = [
    "EnvironmentChange",
    "InstancePlan",
    "LaunchOptions",
    "LaunchPlan",
    "Lease",
    "claim_cores",
    "find_allocator",
    "make_plan",
    "run_plan",
]
