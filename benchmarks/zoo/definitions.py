"""torchvision's model definitions, without torchvision's package.

Importing torchvision loads its compiled operators, which its wheel on PyPI has for CUDA builds of
torch only. The files with the model definitions are plain Python and import one another by relative
imports. So they are imported here as parts of a package of another name, whose `__init__` files
are left out; what they use of the image transforms is a name in the description of pretrained
weights, and stands in.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / ".venv-peers/torchvision"
NAME = f"{__package__}.torchvision"


class _Preprocessing:
    """Stands in for the transforms that go with pretrained weights, which nobody calls here."""

    BILINEAR = BICUBIC = None


def torchvision_models(name: str) -> ModuleType:
    """The module `torchvision.models.NAME`, as it is in the wheel."""
    if not (FOLDER / "torchvision/models").is_dir():
        raise ModuleNotFoundError(
            f"torchvision's files must be in {FOLDER}; got none; run `scripts/peers torchvision`"
        )
    if NAME not in sys.modules:
        for package in ("", ".models", ".ops", ".transforms"):
            _add_package(NAME + package, FOLDER / ("torchvision" + package.replace(".", "/")))
        presets = ModuleType(f"{NAME}.transforms._presets")
        vars(presets).update(ImageClassification=_Preprocessing, InterpolationMode=_Preprocessing)
        sys.modules[presets.__name__] = presets
    return importlib.import_module(f"{NAME}.models.{name}")


def _add_package(name: str, folder: Path) -> None:
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
