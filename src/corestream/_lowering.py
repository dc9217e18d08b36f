"""The one door from the runtime up to `lower` (docs/decisions/0010).

`MultiStreamModule(model, example_inputs=...)` and `Task(model, ..., example_inputs=...)` lower the
model by themselves. The runtime stands below `lower`, which measures on its streams, so it asks
here, when it is needed: nobody who passes no example inputs loads a compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def count_facts(model: Any, *, example_inputs: Any, split: Callable[[Any], list[Any]]) -> Any:
    """What a call of `model` computes and moves; None if one item of the example does not run.

    `split` cuts (args, kwargs) into as many parts as there are items.
    """
    from corestream.lowering.api import Options, check_arguments
    from corestream.runtime.model_facts import facts_of_call

    inputs = check_arguments(model, example_inputs, options=Options())
    items = [type(inputs)(*item) for item in split((inputs.args, inputs.kwargs))]
    return facts_of_call(model, lambda: items[0].call(model), batch_size=len(items))


def lower_for_streams(
    executor: Any, *, model: Any, example_inputs: Any, split: Callable[[Any], list[Any]] | None
) -> Any:
    """`model` as a LoweredModule, for the streams of `executor`.

    `split` cuts (args, kwargs) into a list of such, one for each stream; None: streams get all.
    """
    from corestream.lowering.api import Options, check_arguments, lower_on

    options = Options()
    inputs = check_arguments(model, example_inputs, options=options)
    parts = [inputs]
    if split is not None:
        parts = [type(inputs)(*part) for part in split((inputs.args, inputs.kwargs))]
    # A part, as a hint cuts it, says what is a batch; the whole may not have it along dim 0.
    sizes = {part.batch_size() for part in parts}
    batch_sizes = tuple(sorted(size for size in sizes if size))
    return lower_on(
        executor, model=model, inputs=parts[0], batch_sizes=batch_sizes, options=options
    )
