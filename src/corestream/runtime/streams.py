"""One model, one copy of its weights, many pinned streams."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

import torch

from corestream import _lowering
from corestream.cpu.pool import CPUPool
from corestream.errors import CorestreamWarning
from corestream.profiles.profile import Profile
from corestream.runtime.auto import AutoChoice, choose_streams
from corestream.runtime.callee import make_callee
from corestream.runtime.concat import DEFAULT, concat_outputs
from corestream.runtime.executor import TaskExecutor, check_auto, check_count, check_no_profile
from corestream.runtime.future import Future
from corestream.runtime.hints import HintTree, MultiStreamModuleHint
from corestream.runtime.model_facts import ModelFacts
from corestream.runtime.split import Arguments, split_arguments
from corestream.runtime.warm_up import specialise_for_streams, warm_streams

if TYPE_CHECKING:
    from corestream import _torch


# An example is cut into its items to know what one of them takes.
_MOST_ITEMS = 1 << 16


def get_default_num_streams(cpu_pool: CPUPool) -> int:
    """How many streams "AUTO" makes of a model that nothing is known of: one per core.

    Of a model whose weights can be seen, or that has a profile, it makes as many as suit it:
    ``MultiStreamModule(...).auto`` says how many and why.

    Args:
        cpu_pool: The cores.

    Returns:
        ``len(cpu_pool)``.

    Example:
        >>> import corestream
        >>> pool = corestream.CPUPool()
        >>> corestream.get_default_num_streams(pool) == len(pool)
        True

    Thread-safe; holds the GIL.
    """
    return len(cpu_pool)


class _JoinedHandle:
    """The handle of a call on several streams: its result is the joined one."""

    def __init__(self, handle: _torch.Handle, *, is_joined: bool, hint: HintTree) -> None:
        self._handle = handle
        self._is_joined = is_joined
        self._hint = hint
        self._value: list[Any] = []
        self._joining = threading.Lock()

    def wait(self, timeout_s: float | None = None) -> bool:
        return self._handle.wait(timeout_s)

    def cancel(self) -> bool:
        return self._handle.cancel()

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        self._handle.add_done_callback(callback)

    @property
    def state(self) -> str:
        return self._handle.state

    @property
    def is_over(self) -> bool:
        return self._handle.is_over

    def result(self) -> Any:
        try:
            with self._joining:
                if not self._value:
                    self._value.append(self._join(self._handle.result()))
            return self._value[0]
        finally:
            # The handle holds the exception, whose traceback holds this frame: a cycle.
            del self

    def _join(self, outputs: list[Any]) -> Any:
        if not self._is_joined:
            return outputs
        joined = concat_outputs(outputs, self._hint)
        outputs.clear()  # the native handle has the same list: its parts would live beside `joined`
        return joined


class MultiStreamModule(torch.nn.Module):
    """Runs one model on many pinned streams, each with a part of the batch.

    The pool's cores and the batch are split over the streams, the first ``remainder`` parts one
    larger; a batch smaller than the number of streams uses as many streams as it has items. All
    streams share the model's weights. An ``nn.Module`` holds the GIL, so its streams take turns:
    give ``example_inputs`` to have it lowered, or pass what ``corestream.lower`` returned, a frozen
    ``torch.jit.ScriptModule`` or a ``.pt2`` package.

    Without hints, every tensor in the inputs is split along dim 0 and every tensor in the
    outputs joined along it; tensors without dims, and values that are no tensors, go to every
    stream.

    Args:
        model: A ScriptModule, an nn.Module, or what else :class:`Task` takes.
        num_streams: How many streams, or "AUTO": as the profile says that :func:`corestream.tune`
            saved for this machine and model; without one, as what the model computes and reads
            suggests against the sizes of the caches, within NUMA nodes and L3 domains; one per
            core if nothing is known of the model. :attr:`auto` says why. More than cores is
            clamped to the number of cores, with a warning.
        cpu_pool: The cores; None: ``CPUPool()``, all that this process may use.
        concat_output: Join the streams' outputs; False: return them as a list.
        input_split_hint: Which inputs to split, along which dims.
        output_concat_hint: How to join the outputs.
        example_inputs: If given, ``model`` is an nn.Module in eval mode that is lowered for the
            parts that the streams get of such inputs, as ``corestream.lower`` does it: a tensor,
            a tuple of positional or a mapping of keyword arguments, for the whole batch.
        profile: What "AUTO" goes by, or its file, instead of the profile saved for this machine
            and model.

    Raises:
        TypeError: An argument is of another type.
        ValueError: ``num_streams`` is below 1 or another text than "AUTO"; ``model`` is in
            training mode and was to be lowered; or ``profile`` is of another machine or model.
        OSError: A core could not be had or a thread not made; nothing is left running.
        LoweringError: No backend could lower the model; nothing is left running.

    Example:
        >>> import corestream, torch
        >>> model = torch.jit.freeze(torch.jit.trace(torch.nn.ReLU().eval(), torch.ones(2, 3)))
        >>> streams = corestream.MultiStreamModule(model)
        >>> streams(torch.tensor([[-1.0], [2.0]]))
        tensor([[0.],
                [2.]])

    Source: ``ipex.cpu.runtime.MultiStreamModule`` of Intel Extension for PyTorch, with its
    defects mended.

    Thread-safe: any number of calls may be in flight; they wait without the GIL.
    """

    def __init__(
        self,
        model: Any,
        num_streams: int | str = "AUTO",
        cpu_pool: CPUPool | None = None,
        concat_output: bool = True,
        input_split_hint: MultiStreamModuleHint | None = None,
        output_concat_hint: MultiStreamModuleHint | None = None,
        *,
        example_inputs: Any = None,
        profile: Profile | str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        pool = CPUPool() if cpu_pool is None else cpu_pool
        _check_type(pool, CPUPool, name="cpu_pool")
        _check_type(concat_output, bool, name="concat_output")
        for name, hint in (
            ("input_split_hint", input_split_hint),
            ("output_concat_hint", output_concat_hint),
        ):
            _check_type(hint, MultiStreamModuleHint | None, name=name)
        self._output_tree: HintTree = DEFAULT
        if output_concat_hint is not None:
            self._output_tree = output_concat_hint.as_output()
        self._input_split_hint = input_split_hint
        self._auto: AutoChoice | None = None
        if isinstance(num_streams, str):
            check_auto(num_streams)
            self._auto = self._choose(model, example_inputs, pool=pool, profile=profile)
            pool, self._num_streams = self._auto.cpu_pool, self._auto.num_streams
        else:
            self._num_streams = _clamped(num_streams, pool, profile=profile)
        self._arguments = (pool, concat_output, input_split_hint, output_concat_hint)
        self._concat_output = concat_output
        if example_inputs is None:
            self._callee = make_callee(model, num_streams=self._num_streams)
            self._executor = TaskExecutor(pool, self._num_streams)
        else:
            self._executor = TaskExecutor(pool, self._num_streams)
            model = self._lowered(model, example_inputs)
            self._callee = make_callee(model, num_streams=self._num_streams)
        self._submit_parts = self._executor._native.submit_parts
        specialise_for_streams(model, self._executor, callee=self._callee)
        self.model = model

    def _choose(
        self,
        model: Any,
        example_inputs: Any,
        *,
        pool: CPUPool,
        profile: Profile | str | os.PathLike[str] | None,
    ) -> AutoChoice:
        def split(arguments: Arguments) -> list[Arguments]:
            return split_arguments(arguments, hint=self._input_split_hint, num_parts=_MOST_ITEMS)

        def count_facts() -> ModelFacts | None:
            facts: ModelFacts | None = _lowering.count_facts(
                model, example_inputs=example_inputs, split=split
            )
            return facts

        return choose_streams(
            pool,
            model=model,
            profile=profile,
            count_facts=None if example_inputs is None else count_facts,
        )

    def _lowered(self, model: Any, example_inputs: Any) -> Any:
        try:
            return _lowering.lower_for_streams(
                self._executor, model=model, example_inputs=example_inputs, split=self._split
            )
        except BaseException:
            self._executor.shutdown()
            raise

    def _split(self, arguments: Arguments) -> list[Arguments]:
        return split_arguments(arguments, hint=self._input_split_hint, num_parts=self._num_streams)

    @property
    def executor(self) -> TaskExecutor:
        """The streams, for ``audit()`` and ``shutdown()``.

        Thread-safe; never changes.
        """
        return self._executor

    @property
    def auto(self) -> AutoChoice | None:
        """What "AUTO" came to and why; None where the number of streams was given.

        Thread-safe; never changes.
        """
        return self._auto

    def get_stream_number(self) -> int:
        """How many streams there are.

        Returns:
            The number after "AUTO" and clamping.

        Thread-safe; never changes.
        """
        return self._num_streams

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model on the streams and waits for all of them.

        Args:
            *args: The model's positional arguments, for the whole batch.
            **kwargs: Its keyword arguments.

        Returns:
            What the model would return for the whole batch; with ``concat_output=False``, the
            list of what each stream returned.

        Raises:
            ValueError: The hints do not fit the arguments or outputs, or sizes differ.
            TypeError: A hint names something that is no tensor.
            ShutDown: The executor was shut down.
            Exception: The first error of a stream, after all have ended; a note names it.

        Thread-safe; waiting releases the GIL.
        """
        handle = self._start(args, kwargs)
        try:
            handle.wait()
            return handle.result()
        finally:
            del handle  # its exception's traceback holds this frame, and so the inputs

    def forward_async(self, *args: Any, **kwargs: Any) -> Future:
        """Starts the model on the streams and returns at once.

        The outputs are joined by whoever first asks for the result.

        Args:
            *args: The model's positional arguments, for the whole batch.
            **kwargs: Its keyword arguments.

        Returns:
            The handle to what :meth:`forward` would return.

        Raises:
            ValueError: The hint does not fit the arguments, or sizes differ.
            TypeError: A hint names something that is no tensor.
            ShutDown: The executor was shut down.

        Thread-safe; the inputs are split with the GIL held.
        """
        return Future(self._start(args, kwargs))

    def warm_up(self, *args: Any, **kwargs: Any) -> None:
        """Runs the model on every stream with the part that it would get, and audits the teams.

        Args:
            *args: Example positional arguments, for the whole batch.
            **kwargs: Example keyword arguments.

        Raises:
            Exception: What the model raised.

        Thread-safe; waiting releases the GIL.
        """
        calls = self._split((args, kwargs))
        warm_streams(self._executor, module=self.model, callee=self._callee, calls=calls)
        self._executor.mend_teams()

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _JoinedHandle:
        parts = self._split((args, kwargs))
        handle = self._submit_parts(self._callee, parts)
        return _JoinedHandle(handle, is_joined=self._concat_output, hint=self._output_tree)

    def extra_repr(self) -> str:
        """What ``repr`` shows beside the model.

        Returns:
            The streams and their cores.

        Thread-safe; never changes.
        """
        return f"num_streams={self._num_streams}, cpu_pool={self._executor.cpu_pool!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Threads are neither copied nor pickled: the copy starts its own.
        arguments = (self.model, self._num_streams, *self._arguments)
        return type(self), arguments, {"training": self.training}


def _check_type(value: object, kind: Any, *, name: str) -> None:
    if not isinstance(value, kind):
        kinds = [one.__name__ for one in get_args(kind) or (kind,)]
        text = " or ".join(kinds).replace("NoneType", "None")
        raise TypeError(f"{name} must be a {text}; got {value!r}; see help(MultiStreamModule)")


def _clamped(num_streams: int, pool: CPUPool, *, profile: object) -> int:
    check_count(num_streams, name="num_streams")
    check_no_profile(num_streams, profile=profile)
    if num_streams <= len(pool):
        return num_streams
    warnings.warn(
        f"num_streams must be at most the number of cores, {len(pool)}; got {num_streams}; "
        f"{len(pool)} streams are made",
        CorestreamWarning,
        stacklevel=3,
    )
    return len(pool)
