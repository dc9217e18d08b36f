"""Teams of OpenMP threads: how many, who spins, whose streams, and what a fork would do to them."""

from __future__ import annotations

from collections import Counter

from corestream.cpu.cpu_set import CPUSet
from corestream.cpu.openmp import affinity_settings
from corestream.doctor.checks.openmp import GROUP, runtime_kind
from corestream.doctor.checks.threads import threads_per_process
from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level, count_of
from corestream.doctor.variables import WAITING

BUSY_SHARE = 0.5
"""A thread that used more than this of a CPU while it was watched counts as busy."""

LONG_SPIN_SHARE = 0.9
"""Workers that burn this share of the window spin until they are needed again."""


def teams(facts: Facts) -> Finding:
    """The OpenMP threads of all teams against the CPUs that libgomp counts."""
    cpus = len(_counted_mask(facts))
    if facts.process.kind == "fresh":
        return _team_to_come(facts, cpus=cpus)
    counted = _idle_workers(facts)
    if counted is None:
        value = "not visible: /proc/<pid>/task/*/syscall cannot be read (same user, ptrace)"
        return Finding(group=GROUP, title="teams", level=Level.NOTE, value=value)
    total = 1 + sum(counted.values())
    names = ", ".join(f"{count_of(n, 'idle worker')} of {name}" for name, n in counted.items())
    total_text = f"{count_of(total, 'OpenMP thread')} on {count_of(cpus, 'CPU')}"
    value = f"{names or 'no idle worker'}; {total_text}"
    if total <= cpus or runtime_kind(facts) not in ("libgomp", None):
        return Finding(group=GROUP, title="teams", value=value)
    return Finding(
        group=GROUP,
        title="teams",
        level=Level.WARN,
        value=value,
        explanation=(
            "with more OpenMP threads than CPUs libgomp stops spinning: every barrier of every "
            "team sleeps in the kernel, and small models take 2 to 3 times as long"
        ),
        fix=(
            "corestream.release_idle_team() on the threads that made them; run parallel work on "
            "streams (docs/oversubscription.md)"
        ),
    )


def _counted_mask(facts: Facts) -> CPUSet:
    """The CPUs that libgomp counts: it does so as it loads, before it narrows the main thread."""
    process = facts.process
    is_bound = process.kind == "fresh" or affinity_settings(facts.environ, runtime_kind(facts))
    before = process.mask_before if is_bound else None
    return before or process.mask or facts.machine.budget.allowed


def _team_to_come(facts: Facts, *, cpus: int) -> Finding:
    if facts.team is not None and facts.team.failure:
        return Finding(
            group=GROUP,
            title="teams",
            level=Level.FAIL,
            value=f"the first parallel region of a fresh process {facts.team.failure}",
            fix="look at the other lines of this group; OMP_THREAD_LIMIT is the usual reason",
        )
    measured = facts.team.size if facts.team is not None else None
    size = measured or threads_per_process(facts)
    value = f"a team has {count_of(size, 'thread')} on {count_of(cpus, 'CPU')}"
    if size <= cpus:
        return Finding(group=GROUP, title="teams", value=value)
    return Finding(
        group=GROUP,
        title="teams",
        level=Level.WARN,
        value=value,
        explanation="more threads than CPUs: under libgomp no barrier spins, every one sleeps",
        fix=f"OMP_NUM_THREADS={facts.machine.budget.count}, or a CPUPool",
    )


def _idle_workers(facts: Facts) -> Counter[str] | None:
    if facts.service is not None and facts.service.other_workers is not None:
        counted = Counter({repr(n): c for n, c in facts.service.other_workers.items()})
        if facts.service.stream_workers:
            counted["streams"] = facts.service.stream_workers
        return counted
    main = facts.process.process_id
    threads = [thread for thread in facts.process.threads if thread.thread_id != main]
    if not any(thread.in_openmp is not None for thread in facts.process.threads):
        return None
    return Counter(repr(thread.name) for thread in threads if thread.in_openmp)


def spinning(facts: Facts) -> Finding | None:
    """Who burns CPU time while there is nothing to do, and what decides it."""
    settings = [f"{name}={facts.environ[name]}" for name in WAITING if name in facts.environ]
    policy = ", ".join(settings) or f"none of {', '.join(WAITING)} is set"
    if facts.process.kind != "fresh":
        return _busy_threads(facts, policy=policy)
    team = facts.team
    if team is not None and team.size == 1:
        return Finding(group=GROUP, title="who spins", value=f"a team of 1 never does; {policy}")
    if team is None or team.spin_s is None or team.size is None:
        value = f"not measured; {policy}"
        return Finding(group=GROUP, title="who spins", level=Level.NOTE, value=value)
    workers = team.size - 1
    each = team.spin_s / workers
    who = "1 worker burns" if workers == 1 else f"{workers} workers each burn"
    value = f"{who} {each * 1e3:.1f} ms after a region; {policy}"
    is_long = each >= LONG_SPIN_SHARE * team.window_s
    has_quota = facts.machine.budget.quota is not None
    if not is_long and not (has_quota and each > 1e-3):
        return Finding(group=GROUP, title="who spins", value=value)
    return Finding(
        group=GROUP,
        title="who spins",
        level=Level.WARN if has_quota else Level.NOTE,
        value=value,
        explanation=(
            "spinning workers use up the quota of the threads that have work"
            if has_quota
            else "idle workers keep their CPUs until the next region, also from other processes"
        ),
        fix=f"corestream run --wait passive, or {_passive(facts)} before Python starts",
    )


def _passive(facts: Facts) -> str:
    kind = runtime_kind(facts)
    return "KMP_BLOCKTIME=0" if kind in ("libiomp5", "libomp") else "OMP_WAIT_POLICY=passive"


def _busy_threads(facts: Facts, *, policy: str) -> Finding | None:
    watched = [t for t in facts.process.threads if t.cpu_share is not None]
    if not watched:
        return None
    busy = sorted(
        (t for t in watched if (t.cpu_share or 0) > BUSY_SHARE), key=lambda t: -(t.cpu_share or 0)
    )
    names = ", ".join(f"{t.name} {t.thread_id} {t.cpu_share:.0%}" for t in busy[:6])
    more = f" and {len(busy) - 6} more" if len(busy) > 6 else ""
    value = (
        f"{len(busy)} of {len(watched)} threads busy{f': {names}{more}' if busy else ''}; {policy}"
    )
    budget = facts.machine.budget.count
    if len(busy) <= budget:
        return Finding(group=GROUP, title="who spins", value=value)
    return Finding(
        group=GROUP,
        title="who spins",
        level=Level.WARN,
        value=value,
        explanation=f"more threads work or spin than the budget of {budget} CPUs has room for",
        fix=f"fewer threads, or {_passive(facts)} before Python starts (corestream run)",
    )


def streams(facts: Facts) -> Finding | None:
    """The streams of this process's executors, and what their audit found."""
    service = facts.service
    if service is None:
        return None
    if not service.executors:
        return Finding(group=GROUP, title="streams", value="no executor has streams now")
    value = "; ".join(
        f"{len(e.streams)} streams on {', '.join(map(str, e.streams))}" for e in service.executors
    )
    if not service.problems:
        return Finding(group=GROUP, title="streams", value=value)
    return Finding(
        group=GROUP,
        title="streams",
        level=Level.WARN,
        value=value,
        explanation="; ".join(service.problems),
        fix="as said there; executor.audit() tells it thread by thread",
    )


def fork(facts: Facts) -> Finding | None:
    """Whether a fork would leave a child that hangs in its first parallel region."""
    process = facts.process
    if process.kind == "fresh":
        if facts.torch is None:
            return None
        preload = "--preload" in facts.environ.get("GUNICORN_CMD_ARGS", "")
        return Finding(
            group=GROUP,
            title="fork",
            level=Level.WARN if preload else Level.OK,
            value=f"importing torch makes no team{'; gunicorn forks after it' if preload else ''}",
            explanation=(
                "with --preload the model is built before the fork; parallel work in the main "
                "thread then makes every worker hang"
                if preload
                else ""
            ),
            fix="build and warm the model up in post_fork, or drop --preload" if preload else "",
        )
    workers = _main_team(facts)
    if workers is None:
        value = "the main thread's team is not visible"
        return Finding(group=GROUP, title="fork", level=Level.NOTE, value=value)
    if not workers:
        return Finding(group=GROUP, title="fork", value="the main thread has no idle team")
    value = f"the main thread has an idle team: {count_of(workers, 'worker')} of its name"
    if facts.service is not None and facts.service.executors:
        value += "; corestream's fork handlers end it before a fork"
        return Finding(group=GROUP, title="fork", value=value)
    since = _children_forked_after(facts)
    explanation = "a forked child hangs in its first parallel operator: it lacks the workers"
    if since:
        value += f"; children {', '.join(map(str, since))} were started after it"
    return Finding(
        group=GROUP,
        title="fork",
        level=Level.FAIL if since else Level.WARN,
        value=value,
        explanation=explanation,
        fix=(
            "fork before torch is used, start by spawn or forkserver, or run models on streams: "
            "corestream makes forks safe (docs/fork.md)"
        ),
    )


def _main_team(facts: Facts) -> int | None:
    main = facts.process.process_id
    if facts.service is not None:
        others = facts.service.other_workers
        return None if others is None else others.get(facts.service.main_name, 0)
    counted = _idle_workers(facts)
    names = [thread.name for thread in facts.process.threads if thread.thread_id == main]
    return None if counted is None or not names else counted[repr(names[0])]


def _children_forked_after(facts: Facts) -> list[int]:
    """Children that started after a worker of the team did, by the kernel's clock ticks."""
    starts = [t.started_ticks for t in facts.process.threads if t.in_openmp and t.started_ticks]
    first = min(starts, default=None)
    return [
        child.process_id
        for child in facts.process.children
        if first is not None and child.started_ticks is not None and child.started_ticks > first
    ]
