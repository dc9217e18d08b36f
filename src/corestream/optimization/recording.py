"""Watches one run of a model: which module reads what, whatever its Python code does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from corestream.measure.inputs import ModelInputs
from corestream.optimization.kinds import is_layer
from corestream.optimization.tree import canonical_names
from corestream.optimization.wiring import Wiring


@dataclass
class _Call:
    """One call of a watched module, and who reads what it returned."""

    name: str
    readers: list[str | None] = field(default_factory=list)  # None: an operator, or the caller


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator below Python, and by hooks which of them belong to a watched module."""

    def __init__(self, names: dict[nn.Module, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.owners = {p: name for module, name in names.items() for p in module.parameters()}
        self.calls: list[_Call] = []
        self.input_sizes: dict[str, tuple[int, ...]] = {}
        self.read_outside: set[str] = set()
        self.groups: list[list[str]] = []
        self._inside = 0
        # Weak: one run must not keep all of its activations, nor take a later tensor for one.
        self._producers: Any = WeakIdKeyDictionary()
        self._groups_of: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self._inside:
            for leaf in pytree.tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor):
                    self._note_read(leaf, None)
        return func(*args, **kwargs)

    def _note_read(self, tensor: Tensor, reader: str | None) -> None:
        if tensor in self._producers:
            self._producers[tensor].readers.append(reader)
        if isinstance(tensor, nn.Parameter) and tensor in self.owners:
            self.read_outside.add(self.owners[tensor])

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A watched module is called."""
        name = self.names[module]
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._note_read(leaf, name)
        tensor = args[0] if args else kwargs.get("input")
        self.calls.append(_Call(name))
        if isinstance(tensor, Tensor):
            self.input_sizes.setdefault(name, tuple(tensor.shape))
            self._group(tensor).append(name)
        self._inside += 1

    def _group(self, tensor: Tensor) -> list[str]:
        """The readers of the tensor as it is now: a write in place begins another group."""
        now = 0 if tensor.is_inference() else tensor._version
        version, found = self._groups_of.get(tensor, (None, None))
        if version == now:
            group: list[str] = found
            return group
        self.groups.append([])
        self._groups_of[tensor] = (now, self.groups[-1])
        return self.groups[-1]

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A watched module returns."""
        self._inside -= 1
        if isinstance(output, Tensor):
            self._producers[output] = self.calls[-1]

    def wiring(self) -> Wiring:
        """What was seen, once the run is over and while its output is still held."""
        for call in self._producers.values():
            call.readers.append(None)  # somebody keeps it: the caller, or an attribute
        counts = Counter(call.name for call in self.calls)
        once = {name for name, count in counts.items() if count == 1}
        reader = {}
        for call in self.calls:
            if call.name in once and len(call.readers) == 1 and call.readers[0] in once:
                reader[call.name] = call.readers[0]
        groups = (tuple(group) for group in self.groups if len(group) > 1)
        return Wiring(
            reader=reader,
            same_input=tuple(group for group in groups if once.issuperset(group)),
            input_sizes=self.input_sizes,
            read_outside=frozenset(self.read_outside),
        )


def record(model: nn.Module, inputs: ModelInputs) -> Wiring:
    """The wiring of one run of the model; raises what the run raises."""
    names = {m: name for m, name in canonical_names(model).items() if is_layer(m)}
    recorder = _Recorder(names)
    # Grad mode off, but no inference mode: its tensors have no versions. Copies, since a model may
    # write to its inputs.
    with torch.no_grad():
        own = inputs.map(Tensor.clone)
        with _watching(recorder), recorder:
            output = own.call(model)
    wiring = recorder.wiring()
    del output
    return wiring


@contextmanager
def _watching(recorder: _Recorder) -> Iterator[None]:
    handles = []
    for module in recorder.names:
        # The last before and the first after the module's own work: users' hooks are outside.
        handles.append(module.register_forward_pre_hook(recorder.enter, with_kwargs=True))
        handles.append(module.register_forward_hook(recorder.leave, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
