"""What the checks judge: plain values, so that any environment can be written down as a test.

None stands for "could not be seen" everywhere; no fact is ever guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from corestream.cpu.budget import CPUBudget
from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.machine import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """A cgroup's counters since it was made: how often its quota stopped its threads."""

    path: str
    num_periods: int
    num_throttled: int
    throttled_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyPolicy:
    """How the kernel chooses the clock of some CPUs."""

    governor: str
    driver: str | None
    preference: str | None
    """energy_performance_preference, for drivers that leave the choice to the hardware."""
    cpus: CPUSet


@dataclass(frozen=True, slots=True, kw_only=True)
class HugePages:
    """Transparent huge pages and the pages that were reserved."""

    transparent: str | None
    """`always`, `madvise` or `never`."""
    num_reserved: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """The machine, and what of it the process may use."""

    topology: Topology
    budget: CPUBudget
    cpu_name: str | None = None
    cpu_flags: frozenset[str] = frozenset()
    kernel: str | None = None
    smt_control: str | None = None
    """`on`, `off`, `forceoff`, `notsupported`."""
    throttling: tuple[Throttling, ...] = ()
    steal_share: float | None = None
    """The share of CPU time since boot that the hypervisor gave to others."""
    frequency: tuple[FrequencyPolicy, ...] = ()
    huge_pages: HugePages = HugePages(transparent=None, num_reserved=None)
    numa_balancing: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFacts:
    """One thread of the process that is looked at."""

    thread_id: int
    name: str
    cpus: CPUSet | None
    in_openmp: bool | None = None
    """Asleep inside an OpenMP runtime: a worker of an idle team."""
    started_ticks: int | None = None
    cpu_time_s: float | None = None
    cpu_share: float | None = None
    """The share of one CPU that it used over the window in which it was watched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A child or a sibling of the process that is looked at."""

    process_id: int
    command: tuple[str, ...]
    started_ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """The process that is looked at.

    `kind` is `own` (the calling process), `live` (another, by its id) or `fresh` (a new process
    that imports torch under this environment).
    """

    kind: Literal["own", "live", "fresh"]
    process_id: int | None = None
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] | None = None
    mask: CPUSet | None = None
    """The main thread's mask."""
    mask_before: CPUSet | None = None
    """The mask before torch was imported; of a live process its parent's, which it started with."""
    threads: tuple[ThreadFacts, ...] = ()
    openmp_runtimes: tuple[str, ...] | None = None
    allocators: tuple[str, ...] | None = None
    missing_preloads: tuple[str, ...] = ()
    """Files named by LD_PRELOAD that are not there."""
    siblings: tuple[Relative, ...] = ()
    """Processes of the same parent and command, this one left out: workers of one server."""
    children: tuple[Relative, ...] = ()
    """Processes that it started and that run the same command: its forked children."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFacts:
    """What torch says of itself in the process that is looked at, or in a fresh one."""

    version: str
    python: str
    parallel_info: str
    intra_op: int
    inter_op: int
    capability: str
    """The instruction set of ATen's kernels: DEFAULT, AVX2, AVX512, NEON, SVE256..."""
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    has_mkl: bool = True
    has_onednn: bool = True
    flushes_denormals: bool | None = None
    built_against: str | None = None
    """The torch that corestream's native part was compiled against; None if it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamFacts:
    """What a fresh process's first parallel region showed."""

    size: int | None
    """Threads that took part."""
    failure: str = ""
    """How the process ended, or that it hung, if the region did not return."""
    spin_s: float | None = None
    """CPU time that the workers burnt after the region, while nothing was to be done."""
    window_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One matrix product, timed in turns with the others."""

    median_s: float | None
    times_as_fast: float | None
    """As fast as torch's own fp32 product: the median over the rounds."""
    is_slower: bool = False
    """Than torch's own fp32 product, beyond noise."""
    is_faster: bool = False
    error: str = ""
    """Why there is no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorFacts:
    """A live executor of this process: the CPUs of each of its streams."""

    streams: tuple[CPUSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """What corestream runs in this process."""

    executors: tuple[ExecutorFacts, ...]
    problems: tuple[str, ...] = ()
    """What the audit of all streams found."""
    stream_workers: int = 0
    other_workers: Mapping[str, int] | None = None
    """Idle OpenMP workers outside the streams, by the name of the thread that made them."""
    main_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the checks judge."""

    machine: MachineFacts
    process: ProcessFacts
    torch: TorchFacts | None = None
    torch_absence: str = ""
    """Why there is nothing from torch."""
    torch_died: bool = False
    """The fresh process was ended by a signal or hung, rather than not finding torch."""
    team: TeamFacts | None = None
    products: Mapping[str, Product] | None = None
    products_absence: str = "not measured"
    products_died: bool = False
    """The process that timed them was ended by a signal, or hung."""
    service: ServiceFacts | None = None
    num_workers: int | None = None
    """How many such processes will run side by side, if somebody said so."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables of the process; empty if they cannot be read."""
        return self.process.environ or {}
