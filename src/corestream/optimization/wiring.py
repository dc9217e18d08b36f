"""Which module's output goes where: who alone reads it, and which modules read the same input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from corestream.measure.inputs import ModelInputs


@dataclass(frozen=True)
class Wiring:
    """What is known of the calls of a model's modules in one forward. Modules go by name.

    Attributes:
        reader: The module that reads the output of a module that is called once, if nothing else
            does and if that one is called once too.
        same_input: Modules that read one tensor, with the same values, in the order of their calls.
        input_sizes: Shape of the first input of each module that was seen in a run.
        read_outside: Modules whose parameters something else reads.
    """

    reader: Mapping[str, str] = field(default_factory=dict)
    same_input: tuple[tuple[str, ...], ...] = ()
    input_sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    read_outside: frozenset[str] = frozenset()


def find_wiring(model: nn.Module, inputs: ModelInputs | None) -> Wiring:
    """What tracing tells about every forward, and a run about what cannot be traced.

    A run that contradicts a trace is right: a part of a model that was traced by itself may be
    used in other ways by the whole.
    """
    from corestream.optimization.recording import record
    from corestream.optimization.tracing import trace

    traced = trace(model)
    if inputs is None:
        return traced
    recorded = record(model, inputs)
    called = set(recorded.input_sizes)
    unseen = {a: b for a, b in traced.reader.items() if a not in called and b not in called}
    groups = tuple(group for group in traced.same_input if not called.intersection(group))
    return Wiring(
        reader=unseen | dict(recorded.reader),
        same_input=recorded.same_input + groups,
        input_sizes=recorded.input_sizes,
        read_outside=traced.read_outside | recorded.read_outside,
    )
