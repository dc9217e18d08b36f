"""What a user names on a command line as `module:name`, looked up in the current folder too."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_dotted_name(text: str) -> bool:
    """Whether `text` looks like `package.module:name`.

    Args:
        text: What the user wrote.

    Returns:
        Whether :func:`resolve` can look for it.

    Example:
        >>> is_dotted_name("package.module:Class.make"), is_dotted_name("8x128:int64")
        (True, False)

    Thread-safe; a pure function that holds the GIL.
    """
    return _NAME.fullmatch(text) is not None


@contextmanager
def importable_from_here() -> Iterator[None]:
    """A scope in which modules of the current folder can be imported, as by `python -m`.

    Yields:
        Nothing. What was imported stays imported.

    Example:
        >>> with importable_from_here():
        ...     str(Path.cwd()) in sys.path
        True

    Not thread-safe: `sys.path` is the process's; holds the GIL.
    """
    here = str(Path.cwd())
    is_added = here not in sys.path
    if is_added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if is_added and here in sys.path:
            sys.path.remove(here)


def resolve(text: str, *, parameter: str) -> Any:
    """The object that `package.module:name` names.

    Args:
        text: A module's dotted name, a colon, and the name of something in it.
        parameter: What the errors call it.

    Returns:
        The object.

    Raises:
        ValueError: There is no such module or name, or importing it failed: in one line.

    Example:
        >>> resolve("math:floor", parameter="model")(2.5)
        2

    Thread-safe as imports are; holds the GIL. Whatever the module does at import is done.
    """
    if not is_dotted_name(text):
        raise ValueError(
            f"{parameter} must be of the form module:name; got {text!r}; write "
            f"package.module:function"
        )
    module_name, _, name = text.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except Exception as error:
        if _is_missing(error, module_name):
            raise ValueError(
                f"{parameter} must name a module that can be imported; got {text!r}, and there is "
                f"no module {module_name!r} here or on sys.path; run it in the module's folder, or "
                f"set PYTHONPATH"
            ) from error
        raise ValueError(
            f"{parameter} must name a module that can be imported; got {text!r}, and importing "
            f"{module_name} raised {one_line(error)}"
        ) from error
    for part in name.split("."):
        if not hasattr(value, part):
            raise ValueError(
                f"{parameter} must name something in {module_name}; got {text!r}, and it has no "
                f"{name!r}; {_suggestion(value)}"
            )
        value = getattr(value, part)
    return value


def one_line(error: BaseException, *, max_chars: int = 300) -> str:
    """An exception's class and text, on one line.

    Args:
        error: The exception.
        max_chars: Where the line is cut.

    Returns:
        Such as "KeyError: 'weights'".

    Example:
        >>> one_line(ValueError("two" + chr(10) + "lines"))
        'ValueError: two lines'

    Thread-safe; a pure function that holds the GIL.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def _is_missing(error: Exception, module_name: str) -> bool:
    """Whether the module, or a package that it is in, is what was not found."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return error.name == module_name or module_name.startswith(f"{error.name}.")


def _suggestion(holder: Any) -> str:
    names = [
        name
        for name, value in vars(holder).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == getattr(holder, "__name__", None)
    ]
    return f"it has {', '.join(sorted(names)[:8])}" if names else "it defines nothing to call"
