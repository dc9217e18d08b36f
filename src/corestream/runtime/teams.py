"""The calling thread's own OpenMP team."""

from __future__ import annotations

from corestream import _native


def release_idle_team() -> bool:
    """Ends the calling thread's idle OpenMP team; the next parallel region makes a new one.

    libgomp counts the OpenMP threads of all teams in the process, and lets none of them spin at
    barriers once they outnumber the CPUs: a stream is then 2 to 3 times slower on small models.
    A team that the main thread used to build or trace a model is enough. Executors with streams
    of two or more cores release the team of the thread that makes them, and of threads that give
    them work; call this on other threads, after parallel work outside a stream.

    Returns:
        Whether the runtime is libgomp and the thread's team, if it had one, was ended. Other
        runtimes know no such limit and are left alone.

    Example:
        >>> import corestream
        >>> corestream.release_idle_team() in (True, False)
        True

    Source: ``omp_pause_resource_all``, OpenMP 5.0 section 3.2.42.

    Thread-safe: acts on the calling thread only; releases the GIL.
    """
    return _native.core.release_idle_team()
