"""How many CPUs, why so many, and how much of them one really gets."""

from __future__ import annotations

from collections import Counter

from corestream.cpu.openmp import affinity_settings
from corestream.doctor.facts import Facts, FrequencyPolicy, ThreadFacts
from corestream.doctor.finding import Finding, Level, count_of

GROUP = "CPUs"

THROTTLED_WARN = 0.01
"""A share of periods above which a quota is felt: each throttled one stops a whole team."""

STEAL_NOTE, STEAL_WARN = 0.01, 0.05


def allowed(facts: Facts) -> Finding:
    """The CPUs that the process may use, and what narrowed them."""
    budget, machine = facts.machine.budget, facts.machine.topology
    count = f"{len(budget.allowed)} of {len(machine.online) or '?'}"
    sources = [r for r in budget.reasons if r.startswith(("affinity", "cgroup cpuset", "online"))]
    why = "; ".join(sources or budget.reasons[:1])
    unknown = [note for note in machine.notes if "no CPUs described" in note]
    return Finding(
        group=GROUP,
        title="allowed CPUs",
        value=f"{budget.allowed} ({count}); {why}",
        level=Level.NOTE if unknown else Level.OK,
        explanation=(
            f"the kernel hides the machine ({unknown[0]}): neighbours, caches and NUMA nodes are "
            "unknown, so streams are cut by CPU number alone"
            if unknown
            else ""
        ),
    )


def quota(facts: Facts) -> Finding:
    """The cgroup's CPU quota, which affinity masks do not show."""
    budget = facts.machine.budget
    if budget.quota is None:
        return Finding(group=GROUP, title="CPU quota", value="none")
    source = next((r for r in budget.reasons if r.startswith("cgroup quota")), "")
    available = len(budget.allowed)
    if budget.quota >= available:
        value = f"{budget.quota:g} CPUs, more than the {available} allowed; {source}"
        return Finding(group=GROUP, title="CPU quota", value=value)
    return Finding(
        group=GROUP,
        title="CPU quota",
        level=Level.NOTE,
        value=f"{budget.quota:g} CPUs of {available} allowed: a budget of {budget.count}; {source}",
        explanation=(
            "torch and Python count the allowed CPUs, not the quota; threads beyond the budget "
            "use the quota up early in each period, and then all of them stand still"
        ),
        fix=(
            f"use corestream.CPUPool(), which counts the budget, or start with "
            f"OMP_NUM_THREADS={budget.count}"
        ),
    )


def throttling(facts: Facts) -> Finding | None:
    """How often the quota has stopped the cgroup's threads."""
    counted = [t for t in facts.machine.throttling if t.num_periods]
    if not counted:
        if facts.machine.budget.quota is None:
            return None
        return Finding(
            group=GROUP,
            title="throttling",
            level=Level.NOTE if not facts.machine.throttling else Level.OK,
            value="not counted here" if not facts.machine.throttling else "no period yet",
        )
    worst = max(counted, key=lambda t: t.num_throttled / t.num_periods)
    share = worst.num_throttled / worst.num_periods
    value = (
        f"nr_throttled {worst.num_throttled} of {worst.num_periods} periods ({share:.0%}), "
        f"{worst.throttled_s:.1f} s stopped"
    )
    if share <= THROTTLED_WARN:
        return Finding(group=GROUP, title="throttling", value=value)
    return Finding(
        group=GROUP,
        title="throttling",
        level=Level.WARN,
        value=value,
        explanation=f"since the cgroup was made, its quota stopped all its threads ({worst.path})",
        fix=(
            f"run at most {facts.machine.budget.count} busy threads in it, spinning ones included "
            f"(OMP_WAIT_POLICY=passive), or raise the limit"
        ),
    )


def masks(facts: Facts) -> Finding | None:
    """Where the process's threads may run, against what the process was given."""
    process = facts.process
    if process.mask is None:
        return Finding(
            group=GROUP, title="masks", level=Level.NOTE, value="the process's mask is not shown"
        )
    given = process.mask_before or facts.machine.budget.allowed
    groups = _groups(process.threads)
    value = f"main thread on {process.mask}"
    if groups:
        value += "; " + ", ".join(groups)
    elif process.mask_before is not None:
        same = process.mask == process.mask_before
        value += f", {'as' if same else process.mask_before} before torch was imported"
    if process.mask >= given:
        return Finding(group=GROUP, title="masks", value=value)
    fix = "if nobody meant to (taskset, numactl, pin), find who set it and start threads before"
    if affinity_settings(facts.environ):
        fix = "see the affinity variables below"
    return Finding(
        group=GROUP,
        title="masks",
        level=Level.NOTE,
        value=value,
        explanation=(
            f"the main thread was given {given} and has {process.mask} now; threads and processes "
            f"that it starts inherit the narrow mask"
        ),
        fix=fix,
    )


def _groups(threads: tuple[ThreadFacts, ...]) -> list[str]:
    counted = Counter(str(thread.cpus) for thread in threads if thread.cpus is not None)
    if len(counted) == 1 and len(threads) > 1:
        return [f"all {len(threads)} threads on {next(iter(counted))}"]
    if len(threads) == 1:
        return ["no other thread"]
    shown = [f"{count_of(count, 'thread')} on {cpus}" for cpus, count in counted.most_common(4)]
    hidden = len(counted) - len(shown)
    return [*shown, f"{hidden} masks more"] if hidden else shown


def steal(facts: Facts) -> Finding | None:
    """What the hypervisor gives to other machines."""
    share = facts.machine.steal_share
    if share is None:
        return None
    value = f"{share:.1%} of CPU time since boot"
    if share <= STEAL_NOTE:
        return Finding(group=GROUP, title="steal time", value=value)
    return Finding(
        group=GROUP,
        title="steal time",
        level=Level.WARN if share > STEAL_WARN else Level.NOTE,
        value=value,
        explanation=(
            "the hypervisor runs other machines on these CPUs; a team waits at each barrier for "
            "its slowest thread, so one stolen CPU slows all of them"
        ),
        fix="rent dedicated CPUs, or use small teams: more streams of fewer cores",
    )


def governor(facts: Facts) -> Finding | None:
    """Whether the clock follows the load."""
    policies = facts.machine.frequency
    if not policies:
        return None
    value = "; ".join(_policy(policy) for policy in policies)
    slow = [policy for policy in policies if _is_slow(policy)]
    if not slow:
        return Finding(group=GROUP, title="governor", value=value)
    return Finding(
        group=GROUP,
        title="governor",
        level=Level.WARN,
        value=value,
        explanation="these CPUs stay at or near their lowest clock while they work",
        fix=(
            "as root: cpupower frequency-set -g performance (on laptops: the power profile of the "
            "desktop, or power-profiles-daemon)"
        ),
    )


def _policy(policy: FrequencyPolicy) -> str:
    details = [part for part in (policy.driver, policy.preference) if part]
    in_brackets = f" ({', '.join(details)})" if details else ""
    return f"{policy.governor}{in_brackets} on {policy.cpus}"


def _is_slow(policy: FrequencyPolicy) -> bool:
    # Drivers that leave the choice to the hardware call their normal mode powersave, too; there
    # the preference decides (Documentation/admin-guide/pm/intel_pstate.rst, amd-pstate.rst).
    if policy.preference is not None:
        return policy.preference in ("power", "balance_power")
    return policy.governor == "powersave" and policy.driver not in (
        "intel_pstate",
        "amd-pstate-epp",
    )
