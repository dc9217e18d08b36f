"""Lowers a model to machine code with AOTInductor: the way that runs without Python or the GIL."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from corestream.lowering.aoti_package import (
    ANY_BATCH,
    FACTS_FILE,
    AOTInductorArtifact,
    model_folder,
    name_of_batch,
)
from corestream.lowering.folders import OwnedFolder

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from corestream.lowering.aoti_inputs import InputContract
    from corestream.lowering.backend import LoweringRequest
    from corestream.lowering.cache import ModelCache

# Part of the cache's key: to be raised when the way of compiling changes.
_CODE_VERSION = 4

# torch.export takes sizes of 0 and 1 for constants.
_SMALLEST_OPEN_BATCH = 2


class AOTInductorBackend:
    """Compiles with constants folded and weights prepacked, for the team size of the streams.

    The memory layout of the example stays: contiguous, or channels last. The batch size is left
    open with `dynamic_batch`; the code is tuned for the largest size named. Such code shares loops
    out by the items of the batch, so the smallest size named, if it leaves threads of the team
    without an item, has code of its own, at the cost of one more copy of the weights. Without
    `dynamic_batch` each size named has code of its own, and there is no other.
    """

    name = "aotinductor"
    variant = ""

    def __init__(self, *, cache: bool | str | os.PathLike[str] = False) -> None:
        """Keeps what it compiled on disk if `cache` is true, or the folder to keep it in."""
        self._cache = cache

    def build(self, request: LoweringRequest) -> AOTInductorArtifact:
        """Compiles, which takes from half a minute to many, or takes it from the cache.

        Raises:
            OpenBatchError: The model can be exported for named batch sizes only.
            ValueError: The model cannot be exported, with the reason.
            RuntimeError: There is no C++ compiler, or Inductor failed.
        """
        from corestream.lowering.aoti_compile import inductor_scope

        with inductor_scope():
            plans = _plans(request)
            notes: list[str] = []
            cache, key = self._cache_and_key(plans, notes)
            artifact = cache.find(key, notes) if cache else None
            if not isinstance(artifact, AOTInductorArtifact):
                artifact = _compile(plans)
                if cache:
                    cache.store(key, artifact, notes=notes)
        artifact.notes = (*artifact.notes, *notes)
        return artifact

    def _cache_and_key(
        self, plans: dict[str, _Plan], notes: list[str]
    ) -> tuple[ModelCache | None, str]:
        from corestream.lowering.cache import ModelCache

        cache = ModelCache.of(self._cache)
        if cache is None:
            return None, ""
        key = ""
        try:
            for plan in plans.values():
                key = plan.key(after=key)
        except TypeError as error:
            notes.append(f"not cached: {error}")
            return None, ""
        return cache, key


@dataclass(frozen=True)
class _Plan:
    """What is to be compiled, and how."""

    program: ExportedProgram
    contract: InputContract
    team_size: int
    batch: int | None
    is_open: bool

    @classmethod
    def of(cls, request: LoweringRequest, *, batch: int | None, is_open: bool) -> Self:
        """For batches of that size, or, if open, for any and best for that size."""
        from torch.utils import _pytree as pytree

        from corestream.lowering.aoti_export import export_program
        from corestream.lowering.aoti_inputs import InputContract, dense
        from corestream.lowering.casting import in_dtype
        from corestream.lowering.linear_fusion import fuse_after_linear
        from corestream.lowering.own_linear import use_own_linear
        from corestream.lowering.own_operators import own_operators
        from corestream.lowering.timed_for import TimedFor

        inputs = request.inputs
        if batch is not None:
            inputs = inputs.with_batch(max(_SMALLEST_OPEN_BATCH, batch) if is_open else batch)
        inputs = inputs.map(dense)
        model = in_dtype(request.model, request.inputs, dtype=request.dtype)
        timed_for = TimedFor.of(request.team_size, batch=batch, traced=inputs)
        use_own_linear(model, inputs, timed_for=timed_for)
        with own_operators(model, inputs, team_size=request.team_size):
            program = export_program(model, inputs, dynamic_batch=is_open)
        fuse_after_linear(program.graph_module)
        leaves = pytree.tree_leaves((inputs.args, inputs.kwargs))
        contract = InputContract.of(leaves, any_batch=is_open)
        return cls(program, contract, request.team_size, batch, is_open)

    def key(self, *, after: str) -> str:
        """What names the code of this plan and of those that `after` is the key of."""
        from corestream.lowering.cache import program_key

        settings = self.contract.to_text(), self.team_size, self.batch, _CODE_VERSION, after
        return program_key(self.program, settings=settings)

    def compile(self, folder: OwnedFolder, *, name: str) -> int:
        """Writes the model of that name into a package, and returns the bytes of its weights."""
        from corestream.lowering.aoti_compile import compile_model
        from corestream.lowering.aoti_inputs import METADATA_KEY

        return compile_model(
            self.program,
            model_folder(folder.path, name),
            team_size=self.team_size,
            batch_size=self.batch,
            metadata={METADATA_KEY: self.contract.to_text()},
        )


def _plans(request: LoweringRequest) -> dict[str, _Plan]:
    """What goes into the package, by name; first what runs batches that have no code of their own.

    There is one size of its own at most beside open code, so that weights are there twice at most.
    """
    sizes = request.batch_sizes
    if not sizes:
        return {ANY_BATCH: _Plan.of(request, batch=None, is_open=False)}
    own = sizes[:1] if sizes[0] < request.team_size else ()
    if not request.dynamic_batch:
        own = sizes[:-1]
    plans = {ANY_BATCH: _Plan.of(request, batch=sizes[-1], is_open=request.dynamic_batch)}
    for size in own:
        plans[name_of_batch(size)] = _Plan.of(request, batch=size, is_open=False)
    return plans


def _compile(plans: dict[str, _Plan]) -> AOTInductorArtifact:
    folder = OwnedFolder()
    weight_bytes, *extra_bytes = (plan.compile(folder, name=name) for name, plan in plans.items())
    first, *others = plans.values()
    notes = []
    if first.is_open:
        notes.append(f"batches of any size, fastest of {first.batch}")
    elif first.batch is not None:
        notes.append(f"batches only of {', '.join(str(p.batch) for p in (*others, first))}")
    notes += [
        f"batches of {p.batch} have code and a copy of the weights of their own" for p in others
    ]
    facts = {"weight_bytes": weight_bytes, "extra_bytes": sum(extra_bytes), "notes": notes}
    (folder.path / FACTS_FILE).write_text(json.dumps(facts))
    return AOTInductorArtifact(folder)
