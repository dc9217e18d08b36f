"""The one door to the native modules; what goes wrong at it is explained here.

``_core`` needs no torch. ``_torch`` is bound to the torch it was compiled against: its C++
symbols and object layouts hold within one minor version only.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corestream import _core, _torch

_REBUILD = (
    "build corestream against this torch, in its source tree: `make build`, or "
    "pip install --no-build-isolation --force-reinstall --no-deps ."
)


def minor_version(version: str) -> tuple[int, int]:
    """The (major, minor) of a version text such as "2.13.0+cpu"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def check_torch_version(*, built: str, found: str) -> None:
    """Raises ImportError unless both are of one minor version."""
    if minor_version(built) == minor_version(found):
        return
    raise ImportError(
        f"torch must be {'.'.join(map(str, minor_version(built)))}.x, which corestream was built "
        f"against; got torch {found}; {_REBUILD}"
    )


def built_torch_version() -> str:
    """The torch version in the file that the build left, readable without loading anything."""
    try:
        from corestream import _build
    except ImportError as error:
        raise ImportError(
            f"corestream's native part must be compiled; got none ({error}); run `make build` in "
            f"a source tree, or {_REBUILD}"
        ) from error
    version: str = _build.torch_version
    return version


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"corestream.{name}")
    except ImportError as error:
        raise ImportError(
            f"corestream.{name} must load; got: {error}; most often 1. it was not compiled "
            f"(`make build`), 2. it was compiled for another Python, or 3. for another torch: "
            f"{_REBUILD}"
        ) from error


@cache
def load_core() -> ModuleType:
    """The module ``_core``; raises ImportError with the likely causes."""
    return _load("_core")


@cache
def load_torch() -> ModuleType:
    """The module ``_torch``, after torch; raises ImportError with the likely causes."""
    import torch

    check_torch_version(built=built_torch_version(), found=torch.__version__)
    return _load("_torch")


if TYPE_CHECKING:
    core = _core
    torch_ext = _torch
else:

    def __getattr__(name: str) -> ModuleType:
        loaders = {"core": load_core, "torch_ext": load_torch}
        if name not in loaders:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Found here from now on: an attribute lookup less on every call.
        module = globals()[name] = loaders[name]()
        return module
