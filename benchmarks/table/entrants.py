"""Who takes part: how each entrant's process is started, and in which rows it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).parents[2]
PEERS = REPO / ".venv-peers"
IPEX_PYTHON = PEERS / "ipex/bin/python"

BOTH_MODES = ("latency", "throughput")
BOTH_DTYPES = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Entrant:
    """A column of the table.

    Attributes:
        label: Its heading.
        factory: "module:function" that makes a `Runner` of a `Job`.
        modes: The modes it runs in.
        dtypes: What it can compute in.
        python: Its interpreter.
        folders: Folders of `.venv-peers` on its path.
        environ: Variables of its process, beyond ours.
        measures_itself: It measures while it loads, after `wait_for_others`; so it may begin to
            load beside others.
    """

    label: str
    factory: str
    modes: tuple[str, ...] = BOTH_MODES
    dtypes: tuple[str, ...] = BOTH_DTYPES
    python: Path = Path(sys.executable)
    folders: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    measures_itself: bool = False

    def why_absent(self) -> str:
        """Why it cannot start here; empty if it can."""
        missing = [name for name in self.folders if not (PEERS / name).is_dir()]
        if missing:
            return f"not installed: run `scripts/peers {' '.join(missing)}`"
        return "" if self.python.exists() else "not installed: run `scripts/peers --with-ipex`"


STOCK, COMPILED, FROZEN = "stock", "compile", "jit"
ONNX_RUNTIME, OPENVINO = "onnxruntime", "openvino"
IPEX, IPEX_STREAMS, CORESTREAM = "ipex", "ipex-streams", "corestream"
PEAK = "peak"


def _ipex_environ() -> dict[str, str]:
    """IPEX's streams need Intel's OpenMP to be loaded before anything else.

    Its import starts Inductor's compiling processes, which outlive a process that is killed.
    """
    found = sorted(IPEX_PYTHON.parents[1].glob("**/libiomp5.so"))
    preload = {"LD_PRELOAD": str(found[0])} if found else {}
    return preload | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


ENTRANTS: dict[str, Entrant] = {
    STOCK: Entrant("stock eager", "benchmarks.peers.stock:eager"),
    COMPILED: Entrant(
        "compile + freezing",
        "benchmarks.peers.stock:compiled",
        environ={"TORCHINDUCTOR_FREEZING": "1"},
    ),
    FROZEN: Entrant("jit freeze", "benchmarks.peers.stock:frozen"),
    ONNX_RUNTIME: Entrant(
        "ONNX Runtime",
        "benchmarks.peers.onnx_runtime:load",
        dtypes=("fp32",),
        folders=("onnxruntime", "onnx"),
    ),
    OPENVINO: Entrant("OpenVINO", "benchmarks.peers.open_vino:load", folders=("openvino",)),
    IPEX: Entrant(
        "IPEX 2.8",
        "benchmarks.peers.ipex:load",
        python=IPEX_PYTHON,
        environ=_ipex_environ(),
    ),
    IPEX_STREAMS: Entrant(
        "IPEX 2.8, streams",
        "benchmarks.peers.ipex:load_streams",
        modes=("throughput",),
        python=IPEX_PYTHON,
        environ=_ipex_environ(),
    ),
    CORESTREAM: Entrant("corestream", "benchmarks.peers.streams:load", measures_itself=True),
}

# Measures the machine, not a model: the largest matrix product, in turn with the others.
PEAK_ENTRANT = Entrant("matrix peak", "benchmarks.peers.peak:load")
