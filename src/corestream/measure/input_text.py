"""Example inputs in words: `1x3x224x224:float32`, `ids=8x128:int64[0,30000)`, or a file.

item      = [name "="] shape [":" dtype [range]]      the tensors' values are random
          | file.pt | file.npz | module:callable     everything at once
shape     = size ("x" size)* | "scalar"
dtype     = a torch dtype's name; float32 by default
range     = "[" low "," high (")" | "]")             floats: normal by default; integers
                                                     must have one; bool: either by default
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corestream.measure.inputs import ModelInputs
from corestream.measure.named import is_dotted_name, one_line, resolve

DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float32", "float64", "float16", "bfloat16"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
}
FILES = (".pt", ".pth", ".npz", ".npy")
HELP = "write 1x3x224x224:float32, ids=8x128:int64[0,30000), a .pt or .npz file, or module:callable"

_SPEC = re.compile(
    r"(?:(?P<name>[^\W\d]\w*)=)?"
    r"(?P<shape>scalar|\d+(?:x\d+)*)"
    r"(?::(?P<dtype>[a-z]+\d*)(?P<range>\[.*)?)?"
)
_NUMBER = r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*"
_RANGE = re.compile(rf"\[{_NUMBER},{_NUMBER}([)\]])")


@dataclass(frozen=True)
class Range:
    """The values that a random tensor may have.

    Attributes:
        low: The smallest.
        high: The largest, or the first that is too large.
        is_closed: Whether `high` itself is one of them.
    """

    low: float
    high: float
    is_closed: bool = False

    def __str__(self) -> str:
        return f"[{_number(self.low)},{_number(self.high)}{']' if self.is_closed else ')'}"


@dataclass(frozen=True)
class InputSpec:
    """One random tensor, as the language says it.

    Attributes:
        shape: Its sizes.
        dtype: The name of its dtype.
        name: The keyword argument that it is; None: a positional one.
        values: What they may be; None: normal floats, either bool.

    Example:
        >>> spec = parse_spec("ids=8x128:int64[0,30000)")
        >>> spec.name, spec.shape, str(spec)
        ('ids', (8, 128), 'ids=8x128:int64[0,30000)')

    A value: threads may share it.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None
    values: Range | None = None

    def __str__(self) -> str:
        name = f"{self.name}=" if self.name else ""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{name}{shape}:{self.dtype}{self.values or ''}"

    def tensor(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """A tensor with random values; the same generator gives the same."""
        dtype = DTYPES[self.dtype]
        if dtype.is_floating_point:
            if self.values is None:
                return torch.randn(self.shape, generator=generator).to(dtype)
            unit = torch.rand(self.shape, generator=generator)
            return (self.values.low + unit * (self.values.high - self.values.low)).to(dtype)
        values = self.values or Range(0, 1, is_closed=True)
        last = int(values.high) + (1 if values.is_closed else 0)
        integers = torch.randint(int(values.low), last, self.shape, generator=generator)
        return integers.to(dtype)


def parse_spec(text: str) -> InputSpec:
    """One item of the language that describes a tensor.

    Args:
        text: Such as "ids=8x128:int64[0,30000)".

    Returns:
        What it says.

    Raises:
        ValueError: It is not of the language; the text says where and what to write.

    Example:
        >>> parse_spec("1x3x8x8").dtype
        'float32'

    Thread-safe; a pure function that holds the GIL.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise ValueError(f"inputs must be [name=]SIZExSIZE...[:dtype[range]]; got {text!r}; {HELP}")
    sizes = [] if match["shape"] == "scalar" else [int(size) for size in match["shape"].split("x")]
    if 0 in sizes:
        raise ValueError(f"inputs must have sizes of at least 1; got {text!r}; leave no dim empty")
    dtype = match["dtype"] or "float32"
    if dtype not in DTYPES:
        raise ValueError(
            f"inputs must have a dtype of {', '.join(DTYPES)}; got {dtype!r} in {text!r}; "
            f"write one of these"
        )
    values = None if match["range"] is None else _parse_range(match["range"], dtype, item=text)
    if values is None and "int" in dtype:
        raise ValueError(
            f"inputs of integers must have a range; got {text!r}; write {dtype}[0,100) for 0 to 99"
        )
    return InputSpec(tuple(sizes), dtype, match["name"], values)


def _parse_range(text: str, dtype: str, *, item: str) -> Range:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"inputs must have a range like [0,100) or [0,1]; got {text!r} in {item!r}; write low, "
            f"high, and ) or ] for whether high is included"
        )
    values = Range(float(match[1]), float(match[2]), is_closed=match[3] == "]")
    kind = DTYPES[dtype]
    if not kind.is_floating_point and not (values.low.is_integer() and values.high.is_integer()):
        raise ValueError(f"inputs of {dtype} must have a range of integers; got {item!r}")
    is_empty = values.low > values.high or (values.low == values.high and not values.is_closed)
    if is_empty:
        raise ValueError(
            f"inputs must have a range that is not empty; got {text!r} in {item!r}; put the "
            f"smaller number first"
        )
    smallest, largest = _limits(kind)
    last = values.high if values.is_closed or kind.is_floating_point else values.high - 1
    if values.low < smallest or last > largest:
        raise ValueError(
            f"inputs of {dtype} must lie in {_number(smallest)} to {_number(largest)}; got "
            f"{text!r} in {item!r}; choose another dtype or range"
        )
    return values


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    if dtype == torch.bool:
        return 0, 1
    if dtype.is_floating_point:
        return torch.finfo(dtype).min, torch.finfo(dtype).max
    # randint's own limit is that of int64; a float cannot tell the last ones of those apart.
    largest = min(torch.iinfo(dtype).max, 2**53)
    return max(torch.iinfo(dtype).min, -(2**53)), largest


def load_inputs(texts: Sequence[str], *, seed: int = 0) -> ModelInputs:
    """The arguments of one call, from what a user wrote.

    Args:
        texts: Items that describe a tensor each, positional ones in order; or one file; or one
            `module:callable` that returns what `ModelInputs.of` takes.
        seed: Of the random values.

    Returns:
        The inputs.

    Raises:
        ValueError: An item is not of the language, or a file or a callable gives no inputs.
        FileNotFoundError: There is no such file.

    Example:
        >>> inputs = load_inputs(["2x3:float32", "mask=2x8:bool"])
        >>> inputs.args[0].shape, sorted(inputs.kwargs), inputs.batch_size()
        (torch.Size([2, 3]), ['mask'], 2)

    Thread-safe; holds the GIL. A callable runs its own code.
    """
    if not texts:
        raise ValueError(f"inputs must be given; got none; {HELP}")
    if len(texts) == 1 and texts[0].endswith(FILES):
        return _from_file(Path(texts[0]))
    if len(texts) == 1 and is_dotted_name(texts[0]):
        return _from_callable(texts[0])
    for text in texts:
        if text.endswith(FILES) or is_dotted_name(text):
            raise ValueError(
                f"inputs must be a single file or module:callable, or tensors; got {text!r} among "
                f"{len(texts)} items; put all inputs into it"
            )
    specs = [parse_spec(text) for text in texts]
    names = [spec.name for spec in specs if spec.name]
    if len(names) != len(set(names)):
        raise ValueError(f"inputs must have names of their own; got {names}; rename one")
    generator = torch.Generator().manual_seed(seed)
    tensors = [(spec.name, spec.tensor(generator)) for spec in specs]
    return ModelInputs(
        tuple(tensor for name, tensor in tensors if name is None),
        {name: tensor for name, tensor in tensors if name is not None},
    )


def _from_callable(text: str) -> ModelInputs:
    make = resolve(text, parameter="inputs")
    if not callable(make):
        raise ValueError(
            f"inputs must name a callable that returns inputs; got {text!r}, a "
            f"{type(make).__name__}; write a function"
        )
    try:
        return ModelInputs.of(make())
    except Exception as error:
        raise ValueError(
            f"inputs must come from a callable without arguments; got {text!r}, which raised "
            f"{one_line(error)}"
        ) from error


def _from_file(path: Path) -> ModelInputs:
    if not path.exists():
        raise FileNotFoundError(f"inputs must be a file that exists; got {str(path)!r}; {HELP}")
    try:
        if path.suffix in (".npz", ".npy"):
            return _from_numpy(path)
        return ModelInputs.of(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise ValueError(
            f"inputs must be a file of tensors, written by torch.save or numpy.savez; got "
            f"{str(path)!r}: {one_line(error)}"
        ) from error


def _from_numpy(path: Path) -> ModelInputs:
    """`numpy.savez(file, a, b)` holds positional, `savez(file, ids=a)` keyword arguments."""
    import numpy as np

    loaded: Any = np.load(path, allow_pickle=False)
    if path.suffix == ".npy":
        return ModelInputs((torch.from_numpy(loaded),))
    with loaded:
        arrays = {name: torch.from_numpy(loaded[name]) for name in loaded.files}
    positional = [name for name in arrays if re.fullmatch(r"arr_\d+", name)]
    positional.sort(key=lambda name: int(name[4:]))
    return ModelInputs(
        tuple(arrays.pop(name) for name in positional),
        arrays,
    )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
