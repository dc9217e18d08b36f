"""A model that a user names: a file of any kind that holds one, or a function that makes one."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corestream.errors import ModelFileError
from corestream.measure.named import is_dotted_name, one_line, resolve

HELP = "pass a .pt2 package, a TorchScript file, a saved lowered model, or module:callable"

_WHAT = {
    "module": "an nn.Module",
    "callable": "a callable",
    "exported": "an exported program",
    "torchscript": "a TorchScript module",
    "package": "an AOTInductor package",
    "lowered": "a lowered model",
}


@dataclass(frozen=True)
class NamedModel:
    """A model, as it was named.

    Attributes:
        name: What the user wrote.
        kind: "module", "callable", "exported", "torchscript", "package" or "lowered".
        source: What Task and MultiStreamModule take; of an exported program its module.

    A value; the model itself is as thread-safe as it is.
    """

    name: str
    kind: str
    source: Any

    @property
    def is_lowerable(self) -> bool:
        """Whether `corestream.lower` takes it: it is Python, and not lowered yet."""
        return self.kind in ("module", "exported")

    def describe(self) -> str:
        """What it is, in words."""
        return _WHAT[self.kind]

    def as_callable(self) -> Callable[..., Any]:
        """What torch itself calls: the module, or the package as torch loads it."""
        if self.kind != "package":
            call: Callable[..., Any] = self.source
            return call
        import torch

        package: Any = torch._inductor.aoti_load_package(str(self.source))
        return package  # type: ignore[no-any-return]


def load_model(name: str, *, seed: int | None = 0) -> NamedModel:
    """The model that a user names.

    Args:
        name: The path of a `.pt2` package of AOTInductor, of a program that `torch.export.save`
            wrote, of a TorchScript file, or of a file of `LoweredModule.save`; or
            `module:callable`, a function or class that makes an nn.Module or another callable
            when called without arguments, or an nn.Module itself.
        seed: What torch's random numbers start from when a callable makes the model, so that two
            processes make the same; None: as they are.

    Returns:
        The model; an nn.Module is in eval mode.

    Raises:
        ValueError: It is no model, or could not be made: in one line.
        FileNotFoundError: There is no such file.

    Example:
        >>> load_model("torch.nn:ReLU").kind
        'module'

    Not thread-safe: it sets torch's random seed. A lowered model and a callable are code that runs.
    """
    path = Path(name)
    if path.is_file():
        return _from_file(path, name=name)
    if is_dotted_name(name):
        return _from_callable(name, seed=seed)
    if path.exists():
        raise ValueError(f"model must be a file; got {name!r}, which is a folder; {HELP}")
    raise FileNotFoundError(f"model must exist; got {name!r}, and there is no such file; {HELP}")


def _from_callable(name: str, *, seed: int | None) -> NamedModel:
    import torch

    found = resolve(name, parameter="model")
    model = found
    if not isinstance(found, torch.nn.Module):
        if not callable(found):
            raise ValueError(
                f"model must be made by a callable; got {name!r}, a {type(found).__name__}; name a "
                f"function that returns an nn.Module"
            )
        if seed is not None:
            torch.manual_seed(seed)
        try:
            model = found()
        except Exception as error:
            raise ValueError(
                f"model must come from a callable without arguments; got {name!r}, which raised "
                f"{one_line(error)}"
            ) from error
    if isinstance(model, torch.jit.ScriptModule):
        return NamedModel(name, "torchscript", _in_eval_mode(model))
    if isinstance(model, torch.nn.Module):
        from corestream.lowering.model import LoweredModule

        kind = "lowered" if isinstance(model, LoweredModule) else "module"
        return NamedModel(name, kind, _in_eval_mode(model))
    if not callable(model):
        raise ValueError(
            f"model must be something to call; got {type(model).__name__} from {name!r}; return an "
            f"nn.Module"
        )
    return NamedModel(name, "callable", model)


def _from_file(path: Path, *, name: str) -> NamedModel:
    kind = _kind_of(path)
    try:
        return NamedModel(name, kind, _LOADERS[kind](path))
    except ModelFileError as error:
        raise ValueError(f"model must be usable here; got {name!r}: {one_line(error)}") from error
    except Exception as error:
        raise ValueError(
            f"model must be {_WHAT[kind]} that torch can load; got {name!r}: {one_line(error)}"
        ) from error


def _kind_of(path: Path) -> str:
    """By what the archive holds: every kind of file may end in .pt or .pt2."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"model must be a file that torch wrote; got {str(path)!r}: {one_line(error)}; {HELP}"
        ) from error
    inside = [name.partition("/")[2] for name in names]
    if "corestream.json" in inside:
        return "lowered"
    if any(entry.startswith("data/aotinductor/") for entry in inside):
        return "package"
    if "constants.pkl" in inside:
        return "torchscript"
    if any(entry.startswith("models/") and entry.endswith(".json") for entry in inside):
        return "exported"
    if "data.pkl" in inside:
        raise ValueError(
            f"model must hold code as well as weights; got {str(path)!r}, a pickle such as a "
            f"state_dict or a whole module; write a function that builds the model and loads it, "
            f"and pass module:function"
        )
    raise ValueError(f"model must be a file that holds a model; got {str(path)!r}; {HELP}")


def _load_exported(path: Path) -> Any:
    import torch

    module = torch.export.load(path).module()
    # Its graph is what it is in either mode, and so eval() refuses; who lowers asks for the mode.
    for part in module.modules():
        part.training = False
    return module


def _load_torchscript(path: Path) -> Any:
    import torch

    with warnings.catch_warnings():
        # The user chose TorchScript when it was saved.
        warnings.simplefilter("ignore", category=DeprecationWarning)
        model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return _in_eval_mode(model)


def _in_eval_mode(model: Any) -> Any:
    # A frozen script has no mode left to set.
    return model.eval() if getattr(model, "training", False) else model


def _load_lowered(path: Path) -> Any:
    from corestream.lowering.saved import load

    return load(path, allow_pickle=True)  # who benchmarks a program's model runs the program


_LOADERS: dict[str, Callable[[Path], Any]] = {
    "exported": _load_exported,
    "torchscript": _load_torchscript,
    "package": lambda path: path,
    "lowered": _load_lowered,
}
