"""A small model with everything that lowering must keep, and its compiled form, made once."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from corestream.lowering.aoti import AOTInductorArtifact, AOTInductorBackend
from corestream.lowering.backend import LoweringRequest
from corestream.lowering.folders import temporary_prefix
from corestream.lowering.isolation import IsolatedCall
from corestream.measure.inputs import ModelInputs
from corestream.runtime.threads import read_thread, thread_ids


class Net(nn.Module):
    """Convolution, batch norm, linears; two tensors, a flag and a keyword in, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.hidden = nn.Linear(16, 24)
        self.out = nn.Linear(24, 5)

    def forward(self, image: Tensor, flag: bool, *, scale: Tensor) -> dict[str, object]:
        pooled = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        hidden = torch.nn.functional.gelu(self.hidden(pooled)) * scale[:, None]
        logits = self.out(hidden if flag else -hidden)
        return {"logits": logits, "both": (hidden, logits.argmax(1))}


def make_net() -> Net:
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


def make_inputs(batch: int, *, seed: int = 0) -> ModelInputs:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, 12, 12, generator=generator)
    return ModelInputs((image, True), {"scale": torch.rand(batch, generator=generator) + 0.5})


def request(model: nn.Module, inputs: ModelInputs, *, dynamic_batch: bool = True, **changes):
    values = {
        "model": model,
        "inputs": inputs,
        "dtype": None,
        "team_size": 2,
        "num_streams": 1,
        "dynamic_batch": dynamic_batch,
        "batch_sizes": (inputs.batch_size(),),
    }
    return LoweringRequest(**{**values, **changes})


def build(wanted: LoweringRequest, *, cache: Path | bool = False) -> AOTInductorArtifact:
    """As `lower` builds: on a thread that ends."""
    call = IsolatedCall(lambda: AOTInductorBackend(cache=cache).build(wanted))
    return call.wait(lambda: None, every_s=60.0)


@dataclass
class Compiled:
    """The artifact, what is stored in the cache, and the process around its making."""

    model: Net
    artifact: AOTInductorArtifact
    cache: Path
    environment_before: dict[str, str]
    environment_after: dict[str, str]
    threads_before: set[str]
    threads_after: set[str]
    new_folders: set[str]
    grad_mode_after: bool


def _threads() -> set[str]:
    names = {state.name for state in map(read_thread, thread_ids()) if state}
    return names | {thread.name for thread in threading.enumerate()}


def _folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob(f"{temporary_prefix()}*")}


@functools.cache
def compiled_net() -> Compiled:
    """Compiles once per session, into a cache of its own."""
    model, inputs = make_net(), make_inputs(4)
    cache = Path(tempfile.mkdtemp(prefix="test-cache-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    environment, threads, folders = dict(os.environ), _threads(), _folders()
    artifact = build(request(model, inputs), cache=cache)
    return Compiled(
        model,
        artifact,
        cache,
        environment,
        dict(os.environ),
        threads,
        _threads(),
        _folders() - folders,
        torch.is_grad_enabled(),
    )
