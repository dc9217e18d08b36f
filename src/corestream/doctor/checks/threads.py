"""How many threads torch would use, who said so, and whether there are CPUs for them."""

from __future__ import annotations

import re

from corestream.doctor.facts import Facts
from corestream.doctor.finding import Finding, Level, count_of
from corestream.doctor.precedence import expected_intra_op, invalid_settings, origin_of
from corestream.doctor.variables import positive_integer

GROUP = "Threads"


def num_cores(facts: Facts) -> int:
    """Return the cores that torch would count; their CPUs where the machine does not tell."""
    # MKL counts before a variable narrows the main thread's mask.
    process = facts.process
    before = process.mask_before if process.kind == "fresh" else None
    mask = before or process.mask or facts.machine.budget.allowed
    return len(facts.machine.topology.one_cpu_per_core(mask))


def threads_per_process(facts: Facts) -> int:
    """Return torch's threads for operators, as it says or as the variables let expect."""
    if facts.torch is not None:
        return facts.torch.intra_op
    return expected_intra_op(facts.environ, num_cores=num_cores(facts))


def intra_op(facts: Facts) -> Finding | None:
    """The threads of one operator, and who set their number."""
    torch = facts.torch
    invalid = invalid_settings(facts.environ)
    fix = (
        f"unset {', '.join(i.split('=')[0] for i in invalid)}, or give a number" if invalid else ""
    )
    if torch is None:
        if facts.process.environ is None:
            return None
        count = threads_per_process(facts)
        value = f"{count} expected from the variables and the mask; only torch itself knows"
        level = Level.WARN if invalid else Level.NOTE
        return Finding(group=GROUP, title="intra-op threads", value=value, level=level, fix=fix)
    mask = facts.process.mask_before or facts.process.mask or facts.machine.budget.allowed
    origin = origin_of(
        torch.intra_op,
        facts.environ,
        num_cores=num_cores(facts),
        num_cpus=len(mask),
        has_mkl=torch.has_mkl,
    )
    value = f"{torch.intra_op}, set by {origin.source}"
    if origin.source == "default":
        value = f"{torch.intra_op}, the default: the cores of the mask"
    value += f"; {origin.note}" if origin.note else ""
    explanation = ""
    if origin.overruled:
        explanation = (
            f"{', '.join(origin.overruled)} lost: the API wins over MKL_NUM_THREADS, which wins "
            f"over OMP_NUM_THREADS"
        )
    if invalid:
        explanation = f"ignored, as it is no number of threads: {', '.join(invalid)}"
    level = Level.WARN if invalid else Level.NOTE if origin.overruled or origin.note else Level.OK
    return Finding(
        group=GROUP,
        title="intra-op threads",
        value=value,
        level=level,
        explanation=explanation,
        fix=fix,
    )


def inter_op(facts: Facts) -> Finding | None:
    """The threads of torch.jit.fork's pool, and who set their number."""
    if facts.torch is None:
        return None
    count, budget = facts.torch.inter_op, facts.machine.budget.count
    cpus = {len(facts.machine.topology.online), len(facts.machine.budget.allowed), num_cores(facts)}
    source = "the default" if count in cpus else "set by the API"
    value = f"{count}, {source}; no variable sets it"
    if count <= budget:
        return Finding(group=GROUP, title="inter-op threads", value=value)
    return Finding(
        group=GROUP,
        title="inter-op threads",
        level=Level.NOTE,
        value=value,
        explanation=(
            f"the pool of torch.jit.fork counts the machine's CPUs, not the budget of {budget}; "
            f"each of its threads has an intra-op team of its own"
        ),
        fix=f"torch.set_num_interop_threads({budget}) once, before the first fork",
    )


def oversubscription(facts: Facts) -> Finding:
    """All threads of all workers, against the CPUs."""
    budget, each = facts.machine.budget.count, threads_per_process(facts)
    workers, source = _workers(facts)
    total = workers * each
    value = f"{workers} × {each} = {total} threads" if workers > 1 else count_of(each, "thread")
    value += f" on a budget of {count_of(budget, 'CPU')}" + (f" ({source})" if source else "")
    if total <= budget:
        return Finding(group=GROUP, title="oversubscription", value=value)
    return Finding(
        group=GROUP,
        title="oversubscription",
        level=Level.WARN,
        value=value,
        explanation=(
            "threads wait in turn for a CPU, and at every barrier the whole team waits for the one "
            "that has none"
        ),
        fix=_fewer_threads(workers, budget=budget),
    )


def _fewer_threads(workers: int, *, budget: int) -> str:
    if workers == 1:
        return f"OMP_NUM_THREADS={budget} before the start, or a CPUPool, which counts the budget"
    if budget == 1:
        return "one worker with OMP_NUM_THREADS=1, or a higher limit of CPUs"
    if workers > budget:
        return (
            f"at most {budget} workers with OMP_NUM_THREADS=1 each, or one worker with {budget} "
            f"streams"
        )
    return (
        f"OMP_NUM_THREADS={budget // workers} for each, CPUPool().slice(i, {workers}) in worker i, "
        f"or corestream run --instances {workers}; or one worker with {workers} streams"
    )


def _workers(facts: Facts) -> tuple[int, str]:
    """Return how many such processes share the CPUs, and how that is known."""
    if facts.num_workers is not None:
        return facts.num_workers, "as told"
    if facts.process.siblings:
        name = " ".join(facts.process.command)
        return 1 + len(facts.process.siblings), f"processes of {name[:40]!r}, one parent"
    environ = facts.environ
    for name in ("WEB_CONCURRENCY", "UVICORN_WORKERS", "LOCAL_WORLD_SIZE"):
        count = positive_integer(environ.get(name))
        if count is not None:
            return count, f"{name}={count}"
    match = re.search(r"(?:^|\s)(?:-w|--workers)[ =]?(\d+)", environ.get("GUNICORN_CMD_ARGS", ""))
    if match and int(match[1]) > 0:
        return int(match[1]), "GUNICORN_CMD_ARGS"
    return 1, ""


def inherited_count(facts: Facts) -> Finding | None:
    """OMP_NUM_THREADS=1 that nobody here chose: Ray and torchrun set it for their workers."""
    environ, budget = facts.environ, facts.machine.budget.count
    is_ray = any(name.startswith("RAY_") for name in environ)
    is_ray = is_ray or (facts.process.command[:1] or ("",))[0].startswith("ray::")
    launcher = "Ray" if is_ray else "torchrun" if "LOCAL_WORLD_SIZE" in environ else None
    if launcher is None:
        return None
    title, count = f"{launcher}'s thread count", environ.get("OMP_NUM_THREADS")
    if count != "1" or budget == 1:
        value = f"OMP_NUM_THREADS={count}" if count else "OMP_NUM_THREADS is not set"
        return Finding(group=GROUP, title=title, value=value)
    fix = "@ray.remote(num_cpus=N), or runtime_env={'env_vars': {'OMP_NUM_THREADS': 'N'}}"
    if launcher == "torchrun":
        fix = "set OMP_NUM_THREADS before torchrun"
    return Finding(
        group=GROUP,
        title=title,
        level=Level.WARN,
        value=f"OMP_NUM_THREADS=1, inherited from {launcher}, on a budget of {budget} CPUs",
        explanation=f"{launcher} sets it for workers that asked for no more: operators use one CPU",
        fix=fix,
    )


def thread_limit(facts: Facts) -> Finding | None:
    """OMP_THREAD_LIMIT and OMP_DYNAMIC, which make teams smaller than asked."""
    environ = facts.environ
    limit, each = positive_integer(environ.get("OMP_THREAD_LIMIT")), threads_per_process(facts)
    wanted = max(each, positive_integer(environ.get("OMP_NUM_THREADS")) or 0)
    is_dynamic = environ.get("OMP_DYNAMIC", "").lower() in ("true", "1")
    if limit is None and not is_dynamic:
        return None
    settings = [f"OMP_THREAD_LIMIT={limit}"] if limit is not None else []
    settings += ["OMP_DYNAMIC=true"] if is_dynamic else []
    value = f"{', '.join(settings)} for teams of {wanted}"
    title = "OMP_THREAD_LIMIT" if limit is not None else "OMP_DYNAMIC"
    if not is_dynamic and limit is not None and limit >= wanted:
        return Finding(group=GROUP, title=title, value=value)
    failure = facts.team.failure if facts.team is not None else ""
    return Finding(
        group=GROUP,
        title=title,
        level=Level.FAIL,
        value=value,
        explanation=(
            f"the first parallel region of a fresh process {failure}"
            if failure
            else "teams get fewer threads than torch asks for; code that counts on the number "
            "hangs (pytorch/pytorch#91547), and corestream's streams refuse to start"
        ),
        fix=f"unset {' and '.join(s.split('=')[0] for s in settings)}; OMP_NUM_THREADS is enough",
    )
