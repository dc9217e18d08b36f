"""A module bound to the streams of an executor."""

from __future__ import annotations

from typing import Any

from corestream import _lowering
from corestream.cpu.pool import CPUPool
from corestream.runtime.callee import is_native, make_callee
from corestream.runtime.executor import TaskExecutor
from corestream.runtime.future import Future
from corestream.runtime.warm_up import specialise_for_streams, warm_streams


class Task:
    """Runs a module on pinned cores, asynchronously.

    A ScriptModule or an AOTInductor package runs in C++ without the GIL: calls on different
    streams run at the same time, over one copy of the weights. Any other callable takes the GIL.

    Args:
        module: A ``torch.jit.ScriptModule`` or ``ScriptFunction``; the path of a ``.pt2``
            package, loaded with one model instance per stream; what ``aoti_load_package``
            returned; what ``corestream.lower`` returned; an ``nn.Module`` or any callable.
        executor: The streams, or a pool: the task then has a stream of its own on it.
        example_inputs: If given, ``module`` is an nn.Module in eval mode that is lowered for the
            executor's streams, as ``corestream.lower`` does it: a tensor, a tuple of positional
            or a mapping of keyword arguments, of the batch size that calls will have.

    Raises:
        TypeError: ``module`` cannot be called or lowered, or ``executor`` is something else.
        ValueError: ``module`` is in training mode and was to be lowered.
        FileNotFoundError: There is no package at that path.
        LoweringError: No backend could lower the module.

    Example:
        >>> import corestream, torch
        >>> double = torch.jit.script(lambda x: x * 2)  # doctest: +SKIP
        >>> with corestream.TaskExecutor() as executor:
        ...     task = corestream.Task(torch.nn.ReLU().forward, executor)
        ...     future = task(torch.tensor([-1.0, 1.0]))
        ...     future.get()
        tensor([0., 1.])

    Source: ``ipex.cpu.runtime.Task`` of Intel Extension for PyTorch.

    Thread-safe; whether calls hold the GIL depends on the module, see ``is_native``.
    """

    def __init__(
        self, module: Any, executor: CPUPool | TaskExecutor, *, example_inputs: Any = None
    ) -> None:
        if isinstance(executor, CPUPool):
            executor = TaskExecutor(executor)
        elif not isinstance(executor, TaskExecutor):
            raise TypeError(
                f"executor must be a TaskExecutor or a CPUPool; got {executor!r}; "
                f"write CPUPool(core_ids)"
            )
        if example_inputs is not None:
            module = _lowering.lower_for_streams(
                executor, model=module, example_inputs=example_inputs, split=None
            )
        self._module = module
        self._executor = executor
        self._callee = make_callee(module, num_streams=executor.num_streams)
        self._submit = executor._native.submit
        specialise_for_streams(module, executor, callee=self._callee)

    @property
    def executor(self) -> TaskExecutor:
        """The streams that run the task.

        Thread-safe; never changes.
        """
        return self._executor

    @property
    def is_native(self) -> bool:
        """Whether the module runs in C++, without the GIL.

        Thread-safe; never changes.
        """
        return is_native(self._callee)

    def __call__(self, *args: Any, **kwargs: Any) -> Future:
        """Runs the module on a stream and returns at once.

        Args:
            *args: The module's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The handle to the outcome.

        Raises:
            QueueFull: The executor's queue is bounded and full.
            ShutDown: The executor was shut down.

        Thread-safe; the arguments are converted with the GIL held.
        """
        return Future(self._submit(self._callee, args, kwargs))

    def run_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module on a stream and waits for its result.

        Args:
            *args: The module's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What the module returned.

        Raises:
            QueueFull: The executor's queue is bounded and full.
            ShutDown: The executor was shut down.
            Exception: What the module raised.

        Thread-safe; waiting releases the GIL.
        """
        return self(*args, **kwargs).get()

    def warm_up(self, *args: Any, **kwargs: Any) -> None:
        """Runs the module on every stream until first-call costs are paid, then audits the teams.

        A model that changes its team (compiled for another number of threads, say) is found out
        here: the teams are mended, and a warning says so.

        Args:
            *args: Example positional arguments.
            **kwargs: Example keyword arguments.

        Raises:
            Exception: What the module raised.

        Thread-safe; waiting releases the GIL.
        """
        calls = [(args, kwargs)]
        warm_streams(self._executor, module=self._module, callee=self._callee, calls=calls)
        self._executor.mend_teams()
