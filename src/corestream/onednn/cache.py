"""oneDNN's cache of primitives: how large it is, and whether calls find what they need in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from corestream.onednn.capture import onednn_lines

# oneDNN reads the first that is set (utils.cpp, getenv_int_user).
_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
_DEFAULT_CAPACITY = 1024

# A timestamp stands after the version where ONEDNN_VERBOSE_TIMESTAMP is set.
_LOOKUP = re.compile(
    r"onednn_verbose,v\d+,(?:[\d.]+,)?"
    r"(?P<what>primitive|graph),(?:create|create_nested|compile):cache_(?P<found>hit|miss),"
    r"\w+,(?P<rest>.*),[\d.]+$"
)


@dataclass(slots=True)
class CacheCounts:
    """What was looked for in oneDNN's caches; zero until the scope has ended.

    Attributes:
        hits: Primitives that were found.
        misses: Primitives that were made, most often compiled for one shape.
        graph_hits: Fused groups of oneDNN Graph that were found.
        graph_misses: Fused groups that were compiled.
        missed: What was made or compiled: oneDNN's description of each, in order.

    Example:
        >>> from corestream.onednn import CacheCounts
        >>> CacheCounts().misses
        0

    Not thread-safe; read it when the scope has ended.
    """

    hits: int = 0
    misses: int = 0
    graph_hits: int = 0
    graph_misses: int = 0
    missed: tuple[str, ...] = ()


def count_lookups(lines: list[str]) -> CacheCounts:
    """The lookups that lines of oneDNN's log speak of."""
    found = [match for line in lines if (match := _LOOKUP.match(line))]
    kinds = [(match["what"], match["found"]) for match in found]
    return CacheCounts(
        hits=kinds.count(("primitive", "hit")),
        misses=kinds.count(("primitive", "miss")),
        graph_hits=kinds.count(("graph", "hit")),
        graph_misses=kinds.count(("graph", "miss")),
        missed=tuple(match["rest"] for match in found if match["found"] == "miss"),
    )


@contextmanager
def cache_counts() -> Iterator[CacheCounts]:
    """Counts hits and misses of oneDNN's caches inside the scope.

    A model that still misses on a repeated call of the same shapes has more primitives than the
    cache has room for, or runs in a thread whose team has another size. oneDNN tells of lookups
    in its log only, so for the length of the scope the process's standard output is kept in
    memory (some 200 bytes a primitive) and all but oneDNN's lines is passed on when it ends:
    use it around a few calls, and start no program inside that outlives it.

    Yields:
        The counts, of all threads of the process, filled in when the scope ends.

    Raises:
        OSError: Standard output is closed.
        ValueError: ``ONEDNN_VERBOSE`` holds what torch could not put back.
        RuntimeError: torch was built without oneDNN.

    Example:
        >>> import torch
        >>> from corestream.onednn import cache_counts
        >>> conv, image = torch.nn.Conv2d(8, 8, 3), torch.ones(16, 8, 10, 10)
        >>> with torch.no_grad():
        ...     _ = conv(image)
        ...     with cache_counts() as counts:
        ...         _ = conv(image)
        >>> counts.hits > 0, counts.misses
        (True, 0)

    Thread-safe; scopes may nest and overlap. oneDNN's work keeps to its own rules on the GIL.
    """
    counts = CacheCounts()
    with onednn_lines() as log:
        yield counts
    done = count_lookups(log.lines)
    counts.hits, counts.misses = done.hits, done.misses
    counts.graph_hits, counts.graph_misses = done.graph_hits, done.graph_misses
    counts.missed = done.missed


def primitive_cache_capacity() -> int:
    """How many primitives oneDNN keeps; the least recently used is dropped for a new one.

    torch neither asks oneDNN for this nor sets it, and its library does not export oneDNN's
    functions, so this is what oneDNN reads when it makes its first primitive: the variable
    ``ONEDNN_PRIMITIVE_CACHE_CAPACITY``. To change it, set the variable before the process
    starts; 0 turns the cache off.

    Returns:
        The number of primitives, for the whole process.

    Example:
        >>> from corestream.onednn import primitive_cache_capacity
        >>> primitive_cache_capacity() >= 0
        True

    Source: oneDNN's developer guide, "Primitive Cache".

    Thread-safe; reads the environment only.
    """
    for variable in _VARIABLES:
        text = os.environ.get(variable)
        if text is not None:
            number = re.match(r"\s*[+-]?\d+", text)  # as C's atoi
            return int(number[0]) if number else 0
    return _DEFAULT_CAPACITY
