"""Compiles an exported program with AOTInductor, leaving nothing behind but the package."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corestream.lowering.folders import temporary_prefix

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# How the generated wrapper tells the size of a constant.
_DATA_SIZE = re.compile(r"constants_info_\[\d+\]\.data_size = (\d+);")

# The code, what it was made with, and how it calls operators that are not torch's.
_KEPT = (".wrapper.so", ".wrapper_metadata.json", ".wrapper.json")

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compile_model(
    program: ExportedProgram,
    folder: Path,
    *,
    team_size: int,
    batch_size: int | None,
    metadata: dict[str, str],
) -> int:
    """Writes a package's model into the new `folder`, for streams of `team_size` threads.

    Requires: grad mode is off, where Inductor freezes weights; `inductor_scope()`.

    Args:
        program: The model.
        folder: Where to.
        team_size: Threads of a parallel region.
        batch_size: What an open batch size is most often.
        metadata: Texts that are kept with the package.

    Returns:
        What the weights take, in bytes.

    Raises:
        RuntimeError: There is no C++ compiler, or Inductor failed.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as work:
        from torch._inductor import aot_compile

        from corestream.lowering.aoti_prepack import PrepackConvolutions

        _check_compiler()
        example_inputs: Any = program.example_inputs
        files: Any = aot_compile(
            program.module(),
            *example_inputs,
            options={
                "freezing": True,
                # The number of threads is written into the code: fewer would leave cores idle,
                # more would start threads beside the stream's team.
                "cpp.threads": team_size,
                "post_grad_custom_pre_pass": PrepackConvolutions(batch_size),
                "aot_inductor.package": True,
                "aot_inductor.output_path": work,
                "aot_inductor.metadata": metadata,
                "compile_threads": 1,
            },
        )
        return _move_package([Path(str(file)) for file in files], folder)


def _move_package(files: list[Path], target: Path) -> int:
    """Takes what the loader reads; the sources, as large as the weights at times, stay behind."""
    target.mkdir(parents=True)
    weight_bytes = 0
    for file in files:
        if file.name.endswith(".wrapper.cpp"):
            weight_bytes += sum(map(int, _DATA_SIZE.findall(file.read_text())))
        elif file.name.endswith(_KEPT):
            shutil.move(file, target / file.name)
    return weight_bytes


@contextmanager
def inductor_scope() -> Iterator[None]:
    """Takes back what importing and running Inductor changes in the process."""
    before = os.environ.get(_CACHE_VARIABLE)
    try:
        # torch.fx makes a progress bar for every graph it interprets, shown or not, and the first
        # one of a process starts a thread that watches it.
        with _no_monitor_thread():
            yield
    finally:
        if before is None:
            os.environ.pop(_CACHE_VARIABLE, None)


@contextmanager
def _no_monitor_thread() -> Iterator[None]:
    import torch.hub

    tqdm: Any = torch.hub.tqdm  # type: ignore[attr-defined]
    before = getattr(tqdm, "monitor_interval", None)  # none if tqdm is not installed
    tqdm.monitor_interval = 0
    try:
        yield
    finally:
        tqdm.monitor_interval = before


def _check_compiler() -> None:
    from torch._inductor import config, exc
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise RuntimeError(
            f"a C++ compiler must be installed to lower with AOTInductor; got none that runs among "
            f"{[name for name in config.cpp.cxx if name]}; install g++, or load a model that was "
            f"lowered and saved elsewhere"
        ) from error
