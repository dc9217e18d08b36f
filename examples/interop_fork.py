"""Runs the parts that a ScriptModule forks on the executor's own streams.

Prints:
    1 stream: right
    one per core: right
"""

from __future__ import annotations

import torch

import corestream


class InterOp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w_y = torch.nn.Parameter(torch.rand(64, 64))
        self.w_z = torch.nn.Parameter(torch.rand(64, 64))

    def compute_z(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.w_z)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.jit.fork(self.compute_z, x)  # runs on an idle stream
        y = torch.mm(x, self.w_y)
        return y + torch.jit.wait(z)


def main() -> None:
    net, x = InterOp().eval(), torch.rand(16, 64)
    model = torch.jit.script(net)
    expected = x @ net.w_y + x @ net.w_z

    pool = corestream.CPUPool()
    for name, num_streams in (("1 stream", 1), ("one per core", len(pool))):
        # Torch's own inter-op threads are not pinned, and not used here. With one stream the
        # forked part runs there too: the call that waits for it does not hold the stream.
        with corestream.TaskExecutor(pool, num_streams) as executor:
            futures = [corestream.Task(model, executor)(x) for _ in range(8)]
            is_right = all(torch.allclose(future.get(timeout=60), expected) for future in futures)
        print(f"{name}:", "right" if is_right else "wrong")


if __name__ == "__main__":
    main()
