"""Where people run models, written down: machine, cgroup, variables, process, torch's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from corestream.cpu.cpu_set import CPUSet
from corestream.doctor.facts import (
    ExecutorFacts,
    Facts,
    ProcessFacts,
    Product,
    ServiceFacts,
    TeamFacts,
    TorchFacts,
)
from corestream.doctor.machine_facts import read_machine
from corestream.doctor.process_facts import read_process
from tests.topologies.builder import CPU, Machine, build, cgroup_v1, cgroup_v2, write
from tests.topologies.machines import MACHINES
from tests.topologies.processes import LIBGOMP, Process, Thread, process_texts

AVX512 = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16")
SKLEARNS_LIBGOMP = "/venv/scikit_learn.libs/libgomp-a34b3233.so.1.0.0"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One place; what is not given is as on a quiet machine with nothing wrong."""

    machine: Machine
    texts: Mapping[str, str] = field(default_factory=dict)
    """Further files of sysfs and procfs."""
    processes: tuple[Process, ...] = ()
    """The first is looked at; without any, a fresh process is."""
    environ: Mapping[str, str] = field(default_factory=dict)
    mask: str | None = None
    """The fresh process's mask after torch was imported."""
    torch: TorchFacts | None = None
    absence: str = ""
    team: TeamFacts | None = None
    products: Mapping[str, Product] | None = None
    service: ServiceFacts | None = None
    missing_preloads: tuple[str, ...] = ()


def facts_of(environment: Environment, folder: Path) -> Facts:
    """What the doctor collects there; the machine's text is written under `folder`."""
    root = build(folder, environment.machine)
    write(root, dict(environment.texts))
    for process in environment.processes:
        write(root, process_texts(process))
    if environment.processes:
        number = environment.processes[0].process_id
        process = read_process(root, number)
        assert process is not None
        machine = read_machine(root, process_id=number)
        absence = "another process's torch cannot be asked"
    else:
        machine = read_machine(root)
        process = _fresh_process(environment, machine.budget.allowed)
        absence = environment.absence
    if environment.service is not None:
        process = replace(process, kind="own")
    return Facts(
        machine=machine,
        process=process,
        torch=environment.torch,
        torch_absence=absence,
        team=environment.team,
        products=environment.products,
        products_absence="not measured (--no-probe)",
        service=environment.service,
    )


def _fresh_process(environment: Environment, allowed: CPUSet) -> ProcessFacts:
    mask = CPUSet.parse(environment.mask) if environment.mask else allowed
    return ProcessFacts(
        kind="fresh",
        environ=environment.environ,
        mask=mask,
        mask_before=allowed,
        openmp_runtimes=(LIBGOMP,) if environment.torch else None,
        allocators=() if environment.torch else None,
        missing_preloads=environment.missing_preloads,
    )


def torch_says(
    intra_op: int, inter_op: int, *, has: tuple[str, ...] = AVX512, environ: str = "[not set]"
) -> TorchFacts:
    """torch 2.13 as it describes itself with so many threads; `environ`: OMP_NUM_THREADS."""
    info = (
        f"ATen/Parallel:\n\tat::get_num_threads() : {intra_op}\n"
        f"\tat::get_num_interop_threads() : {inter_op}\nOpenMP 201511 (a.k.a. OpenMP 4.5)\n"
        f"\tomp_get_max_threads() : {intra_op}\nEnvironment variables:\n"
        f"\tOMP_NUM_THREADS : {environ}\nATen parallel backend: OpenMP\n"
    )
    return TorchFacts(
        version="2.13.0+cpu",
        python="3.11.7",
        parallel_info=info,
        intra_op=intra_op,
        inter_op=inter_op,
        capability="AVX512" if "avx512_f" in has else "AVX2",
        capabilities=dict.fromkeys(has, True),
        flushes_denormals=False,
        built_against="2.13.0",
    )


def timed(fp32: float, **times_as_fast: float) -> dict[str, Product]:
    """Products by name (an underscore for a space): fp32 in ms, the others against it."""
    found = {"fp32": Product(median_s=fp32 / 1e3, times_as_fast=1.0)}
    for name, factor in times_as_fast.items():
        found[name.replace("_", " ")] = Product(
            median_s=fp32 / 1e3 / factor,
            times_as_fast=factor,
            is_faster=factor > 1.02,
            is_slower=factor < 0.98,
        )
    return found


ON_INTEL = timed(1.1, fp32_oneDNN=1.0, bf16=6.1, fp16=0.9, fp16_linear=0.95, int8=11.0)
ON_AMD = timed(2.6, fp32_oneDNN=2.2, bf16=4.6, fp16=0.027, fp16_linear=0.22, int8=8.9)
ON_AVX2 = timed(2.4, fp32_oneDNN=1.15, bf16=0.0217, fp16=0.025, fp16_linear=0.22, int8=2.1)


def team(size: int, *, spin_ms: float = 7.0) -> TeamFacts:
    return TeamFacts(size=size, spin_s=(size - 1) * spin_ms / 1e3, window_s=0.05)


def governor(cpus: str, name: str, driver: str, preference: str | None = None) -> dict[str, str]:
    texts = {}
    for cpu in CPUSet.parse(cpus):
        folder = f"{CPU}/cpu{cpu}/cpufreq"
        texts |= {f"{folder}/scaling_governor": name, f"{folder}/scaling_driver": driver}
        if preference:
            texts[f"{folder}/energy_performance_preference"] = preference
    return texts


def quota(cpus: float, *, throttled: int) -> dict[str, dict[str, str]]:
    stat = (
        f"usage_usec 1\nnr_periods 1000\nnr_throttled {throttled}\nthrottled_usec {throttled}00000"
    )
    return {"": {"cpu.max": f"{int(cpus * 100_000)} 100000", "cpu.stat": stat}}


_THP = {"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"}
_WORKERS = tuple(Thread(cpus="0-7", is_idle_worker=True, started_ticks=2000) for _ in range(7))
_MAIN = Thread(cpus="0-7", started_ticks=1000)

ENVIRONMENTS = {
    "bare metal, all well": Environment(
        machine=Machine(cores=16, smt=2),
        texts=_THP
        | governor("0-31", "performance", "acpi-cpufreq")
        | {"proc/stat": "cpu  900 0 100 9000 0 0 0 0 0 0\n", f"{CPU}/smt/control": "on"},
        torch=torch_says(16, 32),
        team=team(16),
        products=ON_INTEL,
    ),
    "docker --cpus=2 on 96 CPUs": Environment(
        machine=Machine(
            packages=2, cores=24, smt=2, cgroup=cgroup_v2("/", quota(2, throttled=874))
        ),
        torch=torch_says(48, 96),
        team=team(48),
        products=ON_INTEL,
    ),
    "kubernetes, static cpuset 40-79": Environment(
        machine=MACHINES["cpuset 40-79"], torch=torch_says(40, 160), team=team(40)
    ),
    "cgroup v1 quota": Environment(
        machine=Machine(
            cores=8,
            cgroup=cgroup_v1(
                "/kubepods/pod7",
                {
                    "/kubepods": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
                    "/kubepods/pod7": {
                        "cpu.cfs_quota_us": "450000",
                        "cpu.cfs_period_us": "100000",
                        "cpu.stat": "nr_periods 500\nnr_throttled 2\nthrottled_time 150000000",
                    },
                },
            ),
        ),
        environ={"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"},
        torch=torch_says(4, 8, environ="4"),
        team=team(4, spin_ms=0),
    ),
    "OMP_PROC_BIND collapsed the mask": Environment(
        machine=Machine(cores=8),
        environ={"OMP_PROC_BIND": "close", "OMP_PLACES": "cores", "KMP_AFFINITY": "compact"},
        mask="0",
        torch=torch_says(8, 8),
        team=team(8),
    ),
    "two OpenMP runtimes": Environment(
        machine=Machine(cores=4),
        processes=(
            Process(
                process_id=70,
                libraries=(LIBGOMP, SKLEARNS_LIBGOMP, "/usr/lib/libjemalloc.so.2"),
                threads=(Thread(cpus="0-3"), Thread(name="http", cpus="0-3")),
            ),
        ),
    ),
    "a Ray worker": Environment(
        machine=Machine(cores=8),
        environ={"OMP_NUM_THREADS": "1", "RAY_JOB_ID": ""},
        torch=torch_says(1, 8, environ="1"),
        team=team(1),
    ),
    "gunicorn, 4 workers of all threads": Environment(
        machine=Machine(cores=8),
        texts=process_texts(Process(process_id=50, command=("gunicorn", "master"))),
        processes=tuple(
            Process(
                process_id=number,
                parent=50,
                command=("gunicorn", "app:app"),
                threads=(replace(_MAIN, name="gunicorn"),),
            )
            for number in (60, 70, 80, 90)
        ),
    ),
    "WSL without NUMA, without torch": Environment(
        machine=MACHINES["wsl"],
        texts={"proc/sys/kernel/osrelease": "6.6.87.2-microsoft-standard-WSL2\n"},
        absence="No module named 'torch'",
    ),
    "gVisor without sysfs": Environment(machine=MACHINES["gvisor"], torch=torch_says(4, 4)),
    "hybrid laptop, power saver": Environment(
        machine=MACHINES["hybrid"],
        texts=_THP | governor("0-19", "powersave", "intel_pstate", "power"),
        torch=torch_says(14, 20, has=("avx2", "avx_vnni")),
        team=team(14),
        products=ON_AVX2,
    ),
    "EPYC, a team over many L3 domains": Environment(
        machine=MACHINES["epyc, 4 l3s per node"],
        texts={"proc/sys/kernel/numa_balancing": "1\n", f"{CPU}/smt/control": "on"},
        torch=torch_says(64, 128),
        team=team(64),
        products=ON_AMD,
    ),
    "virtual machine with steal": Environment(
        machine=Machine(cores=4, smt=2, numbering="siblings adjacent", affinity="0-6"),
        texts={
            "proc/stat": "cpu  700 0 100 8000 0 0 0 1200 0 0\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
        },
        torch=torch_says(4, 8),
        team=team(4),
    ),
    "AVX2 only": Environment(
        machine=Machine(cores=4),
        environ={"ATEN_CPU_CAPABILITY": "avx2", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "four"},
        torch=torch_says(2, 4, has=("avx2",)),
        team=team(2),
        products=ON_AVX2,
    ),
    "forked after the main thread used torch": Environment(
        machine=Machine(cores=8),
        processes=(
            Process(process_id=70, threads=(_MAIN, *_WORKERS)),
            Process(process_id=90, parent=70, threads=(replace(_MAIN, started_ticks=3000),)),
        ),
    ),
    "another user's process": Environment(
        machine=Machine(cores=2), processes=(Process(process_id=70, is_readable=False),)
    ),
    "a service with streams and an idle team": Environment(
        machine=Machine(cores=8),
        processes=(Process(process_id=70, threads=(_MAIN, *_WORKERS)),),
        torch=torch_says(8, 8),
        service=ServiceFacts(
            executors=(ExecutorFacts(streams=(CPUSet.parse("0-3"), CPUSet.parse("4-7"))),),
            problems=("libgomp sleeps at every barrier: call release_idle_team()",),
            stream_workers=6,
            other_workers={"http": 7},
            main_name="python",
        ),
    ),
    "OMP_THREAD_LIMIT, and a hang": Environment(
        machine=Machine(cores=4),
        environ={"OMP_THREAD_LIMIT": "2", "OMP_NUM_THREADS": "4"},
        torch=torch_says(4, 4, environ="4"),
        team=TeamFacts(size=None, failure="hung for 30 s or more"),
    ),
    "spinning in a quota, a preload that is not there": Environment(
        machine=Machine(cores=4, cgroup=cgroup_v2("/", quota(3, throttled=0))),
        environ={
            "OMP_WAIT_POLICY": "active",
            "OMP_NUM_THREADS": "3",
            "LD_PRELOAD": "/usr/lib/libtcmalloc.so",
            "WEB_CONCURRENCY": "2",
        },
        torch=torch_says(3, 4, environ="3"),
        team=team(3, spin_ms=50),
        missing_preloads=("/usr/lib/libtcmalloc.so",),
    ),
}
