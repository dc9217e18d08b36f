"""Trace, freeze and oneDNN's graph fusion, specialised beforehand for the sizes that come."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from corestream import _native
from corestream.lowering.backend import LoweringRequest
from corestream.lowering.casting import in_dtype
from corestream.lowering.heap import used_bytes
from corestream.lowering.own_layers import OwnLayers, count_reads
from corestream.lowering.own_operators import own_operators
from corestream.lowering.structure import CallStructure, FlatCalls, is_traceable
from corestream.lowering.timed_for import TimedFor
from corestream.lowering.tracing_warnings import warnings_as_notes
from corestream.measure.inputs import ModelInputs
from corestream.nn.store import CHANNELS_LAST

# Runs of a shape until TorchScript has profiled and compiled for it.
_RUNS_TO_SETTLE = 2
# Shapes that came once only must not pile up.
_MOST_COUNTED = 8192

_OWN_LAYERS = "layers by corestream's kernels"
_SCRIPT, _INPUTS, _FACTS = "script.pt", "inputs.pt", "torchscript.json"


class _Fusion:
    """oneDNN's fusion, a flag of the whole process that is read when a shape is compiled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = False

    @contextmanager
    def enabled(self) -> Iterator[None]:
        """On within it, on any number of threads; afterwards as it was before the first."""
        with self._lock:
            if self._users == 0:
                self._before = torch._C._jit_llga_enabled()
                torch.jit.enable_onednn_fusion(True)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    torch.jit.enable_onednn_fusion(self._before)


_fusion = _Fusion()


class TorchScriptArtifact:
    """A frozen trace, with one native callee for all who run it: it keeps what was compiled.

    TorchScript compiles a graph anew for each shape that comes, in the second run with it, and
    oneDNN's fused kernels come only while the process-wide flag is on. So the shapes that will
    come are run beforehand (:meth:`specialise`); others run unfused, and as right.
    """

    backend = "torchscript"
    holds_gil = False

    def __init__(
        self,
        script: torch.jit.ScriptModule,
        inputs: ModelInputs,
        *,
        batch_sizes: tuple[int, ...],
        structure: CallStructure | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._structure = structure
        self.weight_bytes = _constant_bytes(script)
        self.extra_bytes = 0
        self._script = script
        self._inputs = inputs
        self._batch_sizes = batch_sizes
        self._callee = _native.torch_ext.TorchScriptCallee(script)
        if structure is not None:
            self._callee.set_structure(structure.flatten, structure.unflatten)
        self._specialising = threading.Lock()
        self._team_sizes: set[int] = set()
        self._turn = threading.RLock()
        self._runs: dict[Any, int] = {}

    def callee_source(self) -> Any:
        """The native callee."""
        return self._callee

    def specialising(self) -> AbstractContextManager[None]:
        """A scope in which a shape that is run is compiled with fusion."""
        return _fusion.enabled()

    def specialise(self, run: Callable[[ModelInputs], Any], *, team_size: int) -> None:
        """Compiles for the batch sizes, once for each size of team.

        Args:
            run: Calls the callee on a stream of `team_size` threads until it has settled.
            team_size: The graphs and kernels of a team size are its own.
        """
        with self._specialising:
            if team_size in self._team_sizes:
                return
            before = used_bytes()
            with self.specialising():
                # The first is compiled best: kernels of others lie behind its guards.
                for size in sorted(self._batch_sizes, reverse=True) or (None,):
                    run(self._inputs if size is None else self._inputs.with_batch(size))
            self.extra_bytes += max(0, used_bytes() - before)
            self._team_sizes.add(team_size)

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the model on the calling thread, by the callee of streams where that is possible.

        Two threads that profile one graph at once with different shapes spoil it
        (docs/decisions/0008), so the first runs of a shape take turns.
        """
        if not self._callee.can_run_here:
            return self._call_script(args, kwargs)
        value = self._callee.run_here(args, kwargs, may_settle=False)
        if value is not NotImplemented:
            return value
        with self.specialising():
            return self._callee.run_here(args, kwargs, may_settle=True)

    def _call_script(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        structure = self._structure
        if structure is None:
            return self._run(args, kwargs)
        return structure.unflatten(self._run(tuple(structure.flatten(args, kwargs)), {}))

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = _signature(args, kwargs)
        if self._runs.get(key, 0) >= _RUNS_TO_SETTLE:
            return self._script(*args, **kwargs)
        with self._turn, self.specialising():
            value = self._script(*args, **kwargs)
            if len(self._runs) >= _MOST_COUNTED:
                self._runs.clear()
            self._runs[key] = self._runs.get(key, 0) + 1
        return value

    def write(self, folder: Path) -> None:
        """Writes the frozen module, the example inputs and the sizes."""
        with warnings_as_notes():
            torch.jit.save(self._script, str(folder / _SCRIPT))
        torch.save((self._inputs.args, self._inputs.kwargs), folder / _INPUTS)
        structure = self._structure and self._structure.to_dict()
        facts = {"batch_sizes": self._batch_sizes, "notes": self.notes, "structure": structure}
        (folder / _FACTS).write_text(json.dumps(facts))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what :meth:`write` wrote; it is specialised when streams first take it."""
        with warnings_as_notes():
            load: Any = torch.jit.load
            script = load(str(folder / _SCRIPT))
        args, kwargs = torch.load(folder / _INPUTS, weights_only=True)
        facts = json.loads((folder / _FACTS).read_text())
        structure = facts["structure"] and CallStructure.from_dict(facts["structure"])
        return cls(
            script,
            ModelInputs(args, kwargs),
            batch_sizes=tuple(facts["batch_sizes"]),
            structure=structure,
            notes=tuple(facts["notes"]),
        )


class TorchScriptBackend:
    """The backend of that name.

    Args:
        own_layers: Layers by corestream's kernels where those suit. Which way is faster depends on
            the model: on how much of its time goes into calls.
    """

    name = "torchscript"

    def __init__(self, *, own_layers: bool = False) -> None:
        self._own_layers = own_layers
        self.variant = "own layers" if own_layers else ""

    def build(self, request: LoweringRequest) -> TorchScriptArtifact:
        """Traces and freezes a copy of the model; raises what stands in the way."""
        if sys.version_info >= (3, 14):
            raise RuntimeError("torch does not support TorchScript on Python 3.14 and later")
        inputs = request.inputs
        if request.batch_sizes and request.dynamic_batch:
            # A batch of one could be traced as a size that broadcasts.
            inputs = inputs.with_batch(max(2, *request.batch_sizes))
        notes: list[str] = []
        if self._own_layers:
            notes.append(_OWN_LAYERS)
            script, structure = _trace_own_layers(request, inputs)
        else:
            script, structure = _trace_channels_last(request, inputs, notes)
        example = inputs.with_batch(1) if request.batch_sizes else inputs
        copied = example.map(lambda tensor: tensor.detach().clone())
        return TorchScriptArtifact(
            script,
            copied,
            batch_sizes=request.batch_sizes,
            structure=structure,
            notes=tuple(notes),
        )


_Traced = tuple[torch.jit.ScriptModule, CallStructure | None]


def _trace_channels_last(
    request: LoweringRequest, inputs: ModelInputs, notes: list[str]
) -> _Traced:
    model = in_dtype(request.model, inputs, dtype=request.dtype)
    if not _has_convolutions(model):
        return _frozen_trace(model, inputs, team_size=request.team_size)
    try:
        return _frozen_trace(_in_channels_last(model), inputs, team_size=request.team_size)
    except RuntimeError as error:
        # view() of a tensor whose channels are last, say.
        notes.append(f"not in channels_last: {str(error).splitlines()[0]}")
    model = in_dtype(request.model, inputs, dtype=request.dtype)
    return _frozen_trace(model, inputs, team_size=request.team_size)


def _trace_own_layers(request: LoweringRequest, inputs: ModelInputs) -> _Traced:
    model = _in_channels_last(in_dtype(request.model, inputs, dtype=request.dtype))
    outputs = inputs.call(model)
    with own_operators(model, inputs, team_size=request.team_size):
        # Within: an operator of ours may leave another layout than torch's.
        largest = max(request.batch_sizes, default=None)
        timed_for = TimedFor.of(request.team_size, batch=largest, traced=inputs)
        reads = count_reads(model, inputs, timed_for=timed_for)
        if not reads:
            raise ValueError(
                "the model must have a layer that corestream has a kernel for; got none that is "
                "called so; use another backend"
            )
        ours = OwnLayers(model, reads, timed_for=timed_for)
        hook = model.register_forward_hook(lambda _, args, results: ours.check(results))
        try:
            with ours:
                return _trace(model, inputs, outputs)
        finally:
            hook.remove()


_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _has_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, _CONVOLUTIONS) for module in model.modules())


def _in_channels_last(model: nn.Module) -> nn.Module:
    def convert(tensor: Tensor) -> Tensor:
        memory_format = CHANNELS_LAST.get(tensor.dim())
        if memory_format is None or not tensor.is_floating_point():
            return tensor
        return tensor.contiguous(memory_format=memory_format)

    def convert_inputs(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        converted = ModelInputs(args, kwargs).map(convert)
        return converted.args, converted.kwargs

    for module in model.modules():
        if isinstance(module, _CONVOLUTIONS):
            module.weight.data = convert(module.weight.data)
    model.register_forward_pre_hook(convert_inputs, with_kwargs=True)
    return model


def _frozen_trace(model: nn.Module, inputs: ModelInputs, *, team_size: int) -> _Traced:
    outputs = inputs.call(model)
    with own_operators(model, inputs, team_size=team_size):
        return _trace(model, inputs, outputs)


def _trace(model: nn.Module, inputs: ModelInputs, outputs: Any) -> _Traced:
    trace: Any = torch.jit.trace
    structure = None
    if not is_traceable(inputs, outputs):
        flat = FlatCalls(model, inputs=inputs, outputs=outputs)
        structure = flat.structure
        traced = trace(flat, flat.tensors(), check_trace=False, strict=False)
    elif inputs.kwargs:
        # The trace has the names, so that calls may give the arguments either way.
        bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
        named = dict(bound.arguments)
        traced = trace(model, example_kwarg_inputs=named, check_trace=False, strict=False)
    else:
        traced = trace(model, inputs.args, check_trace=False, strict=False)
    return torch.jit.freeze(traced), structure


def _constant_bytes(script: torch.jit.ScriptModule) -> int:
    """What the tensors in a frozen module take, each memory once."""
    found: dict[int, int] = {}

    def keep(values: Any) -> None:
        for tensor in pytree.tree_leaves(values):
            if isinstance(tensor, Tensor):
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    def visit(block: Any) -> None:
        for node in block.nodes():
            if node.kind() == "prim::Constant":
                # Also lists of them, which operators of several layers have.
                keep(node.output().toIValue())
            for inner in node.blocks():
                visit(inner)

    visit(script.graph)
    keep([*script.parameters(), *script.buffers()])
    return sum(found.values())


def _signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    leaves, spec = pytree.tree_flatten((args, kwargs))
    shapes = tuple(
        (leaf.dtype, leaf.shape, leaf.stride(), leaf.requires_grad)
        if isinstance(leaf, Tensor)
        else type(leaf)
        for leaf in leaves
    )
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    return shapes, str(spec), modes, torch.is_autocast_enabled("cpu"), torch.get_num_threads()
