"""Compiles a model with AOTInductor and runs the package on many streams.

Prints:
    runs without the GIL: True
    the same as eager: True
    teams are intact: True
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import corestream


def compile_package(net: torch.nn.Module, example: torch.Tensor, path: Path) -> str:
    batch = torch.export.Dim("batch", min=1, max=1024)
    with torch.no_grad():
        program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
    # Inductor writes the number of threads into the code: that of a stream's team, here 1.
    return torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs={"cpp.threads": 1}
    )


def main() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU()).eval()
    batch = torch.rand(8, 16)
    with tempfile.TemporaryDirectory() as folder:
        package = compile_package(net, batch, Path(folder) / "net.pt2")

        # A path is loaded with one instance per stream, over one set of weights.
        streams = corestream.MultiStreamModule(package, num_streams="AUTO")
        streams.warm_up(batch)
        with torch.inference_mode():
            is_equal = torch.allclose(streams(batch), net(batch), atol=1e-5)
        print("runs without the GIL:", corestream.Task(package, streams.executor).is_native)
        print("the same as eager:", is_equal)
        threads = streams.executor.audit().threads
        print("teams are intact:", all(thread.actual == thread.planned for thread in threads))
        streams.executor.shutdown()


if __name__ == "__main__":
    main()
