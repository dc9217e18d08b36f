"""openmp_warnings.py FIRST [LIBRARY]: imports FIRST before torch, loads
LIBRARY, starts a stream twice, and reports what was warned of."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import warnings


def main() -> None:
    first, *libraries = sys.argv[1:]
    for name in (first, "torch"):
        importlib.import_module(name)
    import corestream
    from corestream.errors import CorestreamWarning

    for library in libraries:
        ctypes.CDLL(library)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            corestream.TaskExecutor(num_streams=1).shutdown()
    print(
        json.dumps(
            {
                "warned": [
                    {"text": str(warning.message), "file": warning.filename}
                    for warning in caught
                    if issubclass(warning.category, CorestreamWarning)
                ],
                "info": corestream.runtime_info(),
                "main": sorted(os.sched_getaffinity(0)),
            }
        )
    )


if __name__ == "__main__":
    main()
