"""Keeps the memory of freed tensors for the next ones of their size. Off until switched on."""

from __future__ import annotations

from dataclasses import dataclass

from corestream import _native

DEFAULT_LIMIT_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class TensorMemory:
    """How the keeping of tensor memory goes.

    Attributes:
        limit_bytes: What each thread may keep; 0: off.
        kept_bytes: What all threads keep now.
        reused: Tensors of 64 KiB and more that got kept memory, since the process began.
        made: Tensors of that size that got new memory while keeping was on.

    Thread-safe: a value that never changes.
    """

    limit_bytes: int
    kept_bytes: int
    reused: int
    made: int


def keep_tensor_memory(limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
    """Lets each thread keep the memory of tensors it frees, for its next ones of that size.

    For models with large activations: malloc gives those back to the kernel at once and pays a
    page fault for every 4 KiB at the next call. Memory is given back when a thread ends, when it
    would keep more than the limit (the oldest first), and by :func:`release_tensor_memory`. It
    does what a preloaded jemalloc does, from inside the process and for tensors only.

    Args:
        limit_bytes: For each thread; what a stream's activations of one call need is enough.
            0 switches off and gives all back.

    Raises:
        TypeError: ``limit_bytes`` is not an int.
        ValueError: ``limit_bytes`` is negative.
        RuntimeError: torch has an allocator of someone else's.

    Example:
        >>> import torch
        >>> from corestream.onednn import keep_tensor_memory, tensor_memory
        >>> keep_tensor_memory()
        >>> for _ in range(2):
        ...     _ = torch.empty(1 << 20).fill_(1).sum().item()
        >>> tensor_memory().reused > 0
        True
        >>> keep_tensor_memory(0)

    Thread-safe; the setting is the whole process's. Releases the GIL.
    """
    if isinstance(limit_bytes, bool) or not isinstance(limit_bytes, int):
        raise TypeError(f"limit_bytes must be an int; got {limit_bytes!r}; 0 switches off")
    if not 0 <= limit_bytes < 1 << 62:
        raise ValueError(
            f"limit_bytes must be 0 or more bytes, less than 2**62; got {limit_bytes!r}; "
            f"0 switches off"
        )
    _native.torch_ext.keep_tensor_memory(limit_bytes)


def release_tensor_memory() -> int:
    """Gives all kept memory of all threads back to malloc; keeping goes on.

    Returns:
        How many bytes there were.

    Example:
        >>> from corestream.onednn import release_tensor_memory
        >>> release_tensor_memory() >= 0
        True

    Thread-safe; releases the GIL.
    """
    return _native.torch_ext.release_tensor_memory()


def tensor_memory() -> TensorMemory:
    """What is kept now, and how often it helped.

    Returns:
        The limit, the bytes kept and the counts of large tensors.

    Example:
        >>> from corestream.onednn import tensor_memory
        >>> tensor_memory().limit_bytes
        0

    Thread-safe; holds the GIL.
    """
    return TensorMemory(*_native.torch_ext.tensor_memory())
