"""Finding the best streams, team size, batch and backend by measuring.

`tune` looks; its result says what to use, how much better than stock PyTorch that is, and whether
the difference is more than noise.
"""

from __future__ import annotations

from corestream.tuning.api import tune
from corestream.tuning.result import TuneResult
from corestream.tuning.setting import Setting
from corestream.tuning.threads import ThreadSweep, sweep_threads

__all__ = ["Setting", "ThreadSweep", "TuneResult", "sweep_threads", "tune"]
