"""Lowers a model to machine code with AOTInductor: the way that runs without Python or the GIL."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from corestream.lowering.aoti_package import FACTS_FILE, AOTInductorArtifact
from corestream.lowering.folders import OwnedFolder

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from corestream.lowering.aoti_inputs import InputContract
    from corestream.lowering.backend import LoweringRequest
    from corestream.lowering.cache import ModelCache

# Part of the cache's key: to be raised when the way of compiling changes.
_CODE_VERSION = 2

# torch.export takes sizes of 0 and 1 for constants.
_SMALLEST_OPEN_BATCH = 2


class AOTInductorBackend:
    """Compiles with constants folded and weights prepacked, for the team size of the streams.

    The memory layout of the example stays: contiguous, or channels last. The batch size is left
    open with `dynamic_batch`; the code is tuned for the largest size named.
    """

    name = "aotinductor"

    def __init__(self, *, cache: bool | str | os.PathLike[str] = False) -> None:
        """Keeps what it compiled on disk if `cache` is true, or the folder to keep it in."""
        self._cache = cache

    def build(self, request: LoweringRequest) -> AOTInductorArtifact:
        """Compiles, which takes from half a minute to many, or takes it from the cache.

        Raises:
            ValueError: The model cannot be exported, with the reason.
            RuntimeError: There is no C++ compiler, or Inductor failed.
        """
        from corestream.lowering.aoti_compile import inductor_scope

        with inductor_scope():
            plan = _Plan.of(request)
            notes: list[str] = []
            cache, key = self._cache_and_key(plan, notes)
            artifact = cache.find(key, notes) if cache else None
            if not isinstance(artifact, AOTInductorArtifact):
                artifact = plan.compile()
                if cache:
                    cache.store(key, artifact, notes=notes)
        artifact.notes = (*artifact.notes, *notes)
        return artifact

    def _cache_and_key(self, plan: _Plan, notes: list[str]) -> tuple[ModelCache | None, str]:
        from corestream.lowering.cache import ModelCache, program_key

        cache = ModelCache.of(self._cache)
        if cache is None:
            return None, ""
        try:
            return cache, program_key(plan.program, settings=plan.settings())
        except TypeError as error:
            notes.append(f"not cached: {error}")
            return None, ""


@dataclass(frozen=True)
class _Plan:
    """What is to be compiled, and how."""

    program: ExportedProgram
    contract: InputContract
    team_size: int
    tuned_batch: int | None
    is_open: bool

    @classmethod
    def of(cls, request: LoweringRequest) -> Self:
        from torch.utils import _pytree as pytree

        from corestream.lowering.aoti_export import export_program
        from corestream.lowering.aoti_inputs import InputContract, dense
        from corestream.lowering.casting import in_dtype

        inputs, batch = request.inputs, request.inputs.batch_size()
        is_open = request.dynamic_batch and batch is not None
        if is_open:
            batch = max(request.batch_sizes, default=batch)
            inputs = inputs.with_batch(max(_SMALLEST_OPEN_BATCH, batch or 0))
        inputs = inputs.map(dense)
        model = in_dtype(request.model, request.inputs, dtype=request.dtype)
        program = export_program(model, inputs, dynamic_batch=is_open)
        leaves = pytree.tree_leaves((inputs.args, inputs.kwargs))
        contract = InputContract.of(leaves, any_batch=is_open)
        return cls(program, contract, request.team_size, batch, is_open)

    def settings(self) -> tuple[Any, ...]:
        """What decides about the code beside the program."""
        return self.contract.to_text(), self.team_size, self.tuned_batch, _CODE_VERSION

    def compile(self) -> AOTInductorArtifact:
        from corestream.lowering.aoti_compile import compile_package
        from corestream.lowering.aoti_inputs import METADATA_KEY

        folder = OwnedFolder()
        weight_bytes = compile_package(
            self.program,
            folder.path,
            team_size=self.team_size,
            batch_size=self.tuned_batch,
            metadata={METADATA_KEY: self.contract.to_text()},
        )
        size = "of any size, fastest" if self.is_open else "only"
        notes = (f"batches {size} of {self.tuned_batch}",) if self.tuned_batch else ()
        facts = {"weight_bytes": weight_bytes, "notes": notes}
        (folder.path / FACTS_FILE).write_text(json.dumps(facts))
        return AOTInductorArtifact(folder)
