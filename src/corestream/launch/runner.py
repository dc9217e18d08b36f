"""Executing a plan: turning into the only instance, or starting several and watching over them."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from corestream.launch.messages import flush, say
from corestream.launch.output import Output
from corestream.launch.plan import InstancePlan, LaunchPlan
from corestream.launch.process import confine, restore_default_signals
from corestream.launch.supervisor import CANNOT_LAUNCH, Supervisor

# As a shell has them.
CANNOT_EXECUTE = 126
NOT_FOUND = 127

_CODES = {errno.ENOENT: NOT_FOUND, errno.EACCES: CANNOT_EXECUTE, errno.ENOEXEC: CANNOT_EXECUTE}


def run_plan(plan: LaunchPlan, *, environ: Mapping[str, str] | None = None) -> int:
    """Execute a plan: start its instances and wait for them.

    A single instance without a log file takes the place of this process, which then never
    returns: same process id, same terminal, signals and exit code as if the program had been
    started by itself. Several run in process groups of their own: signals sent to this process
    are forwarded to each group, the first that fails ends the others, and they are killed if
    this process dies.

    Args:
        plan: From `make_plan`.
        environ: The environment that the plan was made for; that of this process by default.

    Returns:
        The exit code of the first instance that failed, 128 + n if signal n ended it; 0 if
        none failed; 127 or 126 if the program was not found or cannot be executed, 125 if the
        kernel refused a mask.

    Example:
        >>> from corestream.launch import LaunchPlan, run_plan
        >>> run_plan(LaunchPlan(instances=(), num_planned=0, grace_s=10.0))
        0

    Not thread-safe: call it from the main thread, once at a time, in a process without other
    threads; releases the GIL while it waits.
    """
    environ = os.environ if environ is None else environ
    code = _executable_code(plan, environ)
    if code:
        return code
    try:
        if plan.in_place:
            _become(plan.instances[0], environ)
        with _output_of(plan) as output:
            return _supervise(plan, environ, output)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        return CANNOT_LAUNCH


def _executable_code(plan: LaunchPlan, environ: Mapping[str, str]) -> int:
    """Return 0 if the program of each instance can be started, or the exit code that says why."""
    for instance in plan.instances:
        program = instance.argv[0]
        if shutil.which(program, path=environ.get("PATH", os.defpath)) is None:
            exists = "/" in program and Path(program).exists()
            hint = "make it executable" if exists else "see PATH"
            if not exists and Path(program).exists():
                hint = f"for the file in this folder write ./{program}"
            say(f"command must be a .py file or an executable; got {program!r}; {hint}")
            return CANNOT_EXECUTE if exists else NOT_FOUND
    return 0


def _become(instance: InstancePlan, environ: Mapping[str, str]) -> NoReturn:
    note = confine(instance)
    if note:
        say(note)
    flush()
    restore_default_signals()
    try:
        os.execvpe(instance.argv[0], instance.argv, instance.environ(environ))
    except OSError as error:
        say(_why_not(instance, error))
        sys.exit(_CODES.get(error.errno or 0, CANNOT_LAUNCH))


def _supervise(plan: LaunchPlan, environ: Mapping[str, str], output: Output) -> int:
    try:
        return Supervisor(plan, environ=environ, output=output).run()
    except OSError as error:
        say(_why_not(plan.instances[0], error))
        return _CODES.get(error.errno or 0, CANNOT_LAUNCH)


def _why_not(instance: InstancePlan, error: OSError) -> str:
    return (
        f"command must be a program that can be executed; got {instance.argv[0]!r}, "
        f"{error.strerror}; see its first line and its interpreter"
    )


@contextmanager
def _output_of(plan: LaunchPlan) -> Iterator[Output]:
    """Yield where the instances' output goes, with their log files open."""
    output = Output(is_prefixed=len(plan.instances) > 1)
    try:
        for instance in plan.instances:
            if instance.log_path is not None:
                output.open_log(instance.index, instance.log_path)
        yield output
    finally:
        output.close()
