"""How the allowed CPUs are wired: SMT siblings, NUMA nodes, L3 domains, core types."""

from __future__ import annotations

from corestream.cpu.cpu_set import CPUSet
from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level, count_of

GROUP = "Places"


def smt(facts: Facts) -> Finding:
    """Whether two of the allowed CPUs are one core, or half of one."""
    machine, allowed = facts.machine.topology, facts.machine.budget.allowed
    cores = [core for core in machine.cores if core.cpus & allowed]
    shared = [core for core in cores if len(core.cpus & allowed) > 1]
    foreign = CPUSet(cpu for core in cores for cpu in core.cpus - allowed)
    control = facts.machine.smt_control
    if not any(len(core.cpus) > 1 for core in cores):
        value = f"{count_of(len(cores), 'core')}, one CPU each"
        value += f"; SMT {control}" if control else ""
        return Finding(group=GROUP, title="SMT", value=value)
    if not foreign:
        return Finding(
            group=GROUP,
            title="SMT",
            value=f"{len(allowed)} CPUs on {len(cores)} cores, {len(shared)} of them with siblings",
        )
    return Finding(
        group=GROUP,
        title="SMT",
        level=Level.NOTE,
        value=f"{len(allowed)} CPUs on {len(cores)} cores, siblings {foreign} are not ours",
        explanation=(
            "whoever runs on the other CPU of a core takes up to half of its speed, and timings "
            "vary with it"
        ),
        fix="ask for whole cores (Kubernetes: full-pcpus-only of the static CPU manager)",
    )


def numa(facts: Facts) -> Finding:
    """The NUMA nodes of the allowed CPUs."""
    machine, allowed = facts.machine.topology, facts.machine.budget.allowed
    nodes = [node for node in machine.numa_nodes if node.cpus & allowed]
    parts = ", ".join(f"node {n.numa_node_id}: {n.cpus & allowed}" for n in nodes[:6])
    value = f"{len(nodes)} of {len(machine.numa_nodes)} ({parts})" if nodes else "not described"
    if any("no NUMA nodes described" in note for note in machine.notes):
        value = "not described; taken for one node"
    if len(nodes) <= 1:
        return Finding(group=GROUP, title="NUMA nodes", value=value)
    explanation = (
        "one team over several nodes reads weights across the link; corestream's streams stay "
        "inside a node"
    )
    if facts.machine.numa_balancing:
        explanation += "; the kernel's NUMA balancing is on and moves pages while models run"
    return Finding(
        group=GROUP,
        title="NUMA nodes",
        level=Level.NOTE,
        value=value,
        explanation=explanation,
        fix="one process a node (corestream run --node N), or MultiStreamModule over all of them",
    )


def l3(facts: Facts) -> Finding | None:
    """The L3 domains of the allowed CPUs, against the team that torch would use."""
    machine, allowed = facts.machine.topology, facts.machine.budget.allowed
    domains = [domain for domain in machine.l3_domains if domain.cpus & allowed]
    if not domains:
        value = "not described; a NUMA node counts as one"
        return Finding(group=GROUP, title="L3 domains", value=value)
    sizes = sorted({f"{d.size_bytes / 2**20:g} MiB" for d in domains if d.size_bytes})
    value = f"{len(domains)}, each {' or '.join(sizes) or 'of unknown size'}"
    if len(domains) <= 8:
        value += f" ({', '.join(str(d.cpus & allowed) for d in domains)})"
    largest = max(len(machine.one_cpu_per_core(d.cpus & allowed)) for d in domains)
    threads = facts.torch.intra_op if facts.torch else None
    if len(domains) == 1 or threads is None or threads <= largest:
        return Finding(group=GROUP, title="L3 domains", value=value)
    return Finding(
        group=GROUP,
        title="L3 domains",
        level=Level.WARN,
        value=value,
        explanation=(
            f"a team of {threads} threads straddles L3 domains of {largest} cores: what one thread "
            f"writes the others fetch through memory, and every barrier crosses the chip"
        ),
        fix=(
            f"MultiStreamModule with one stream a domain (num_streams={len(domains)}), or "
            f"{largest} threads on one of them"
        ),
    )


def core_types(facts: Facts) -> Finding | None:
    """Whether fast and slow cores would be in one team."""
    machine, allowed = facts.machine.topology, facts.machine.budget.allowed
    fast = machine.cpus_of_type("performance") & allowed
    slow = machine.cpus_of_type("efficient") & allowed
    if not fast and not slow:
        return None
    value = f"performance {fast or 'none'}; efficient {slow or 'none'}"
    if not fast or not slow:
        return Finding(group=GROUP, title="core types", value=value)
    return Finding(
        group=GROUP,
        title="core types",
        level=Level.NOTE,
        value=value,
        explanation="a team with both kinds ends each region with its slowest thread",
        fix="teams of one kind: a CPUPool of performance cores, own streams for the others",
    )
