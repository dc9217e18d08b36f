"""Calls that are done again without interpreter and dispatcher give what they gave before."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from corestream import CPUPool, MultiStreamModule, Task
from corestream.ops import (
    ConvolutionShape,
    EmbeddingPart,
    JoinedPart,
    PackedConvolution,
    adaptive_avg_pool,
    avg_pool,
    convolution,
    has_kernels,
    interleave_channels,
    joined_convolutions,
    joined_embeddings,
    linear,
    max_pool,
    multiply_transposed,
    pack_convolution,
    pack_linear,
)
from tests.unit.runtime.captured import WARM_UP, Source, caller, traced, uncaptured

DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if has_kernels(dtype)]
SHAPE = ConvolutionShape((32, 32, 3, 3), padding=(1, 1))


class Layer(nn.Module):
    """A convolution of ours, packed."""

    def __init__(self, dtype: torch.dtype, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(seed)) / 17
        self.packed = pack_convolution(weight.to(dtype))

    def layer(self) -> PackedConvolution:
        return PackedConvolution(packed=self.packed, shape=SHAPE)

    def forward(self, image: Tensor, residual: Tensor | None = None) -> Tensor:
        return convolution(image, self.packed, shape=SHAPE, residual=residual, low=0.0)


class Network(nn.Module):
    """All of our operators that can be done again, and some of torch's between them."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(dtype, seed) for seed in range(4)])
        self.classifier = pack_linear(torch.randn(10, 64, dtype=dtype))

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        image = self.layers[0](image, image)
        left, right = self.layers[1](max_pool(image, (2, 2))).chunk(2, 1)
        image = interleave_channels([left, right])
        parts = [
            JoinedPart(input=image, convolution=self.layers[2].layer()),
            JoinedPart(input=avg_pool(image, (3, 3), stride=(1, 1), padding=(1, 1))),
        ]
        image = joined_convolutions(parts)
        image = image * torch.sigmoid(image)
        features = adaptive_avg_pool(image, (1, 1)).flatten(1)
        logits = linear(features, self.classifier, out_features=10)
        return multiply_transposed(logits[:, :, None], features[:, :, None])


def images(batch: int, seed: int = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 32, 24, 20, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_cores", [1, 2])
def test_the_same_comes_out_for_other_numbers(num_cores: int, dtype: torch.dtype) -> None:
    model = Network(dtype)
    source = traced(model, images(2, dtype=dtype))
    call = caller(source, num_cores)
    for batch in (1, 3):
        for _ in range(WARM_UP):
            call(images(batch, dtype=dtype))
        before = source.callee.num_captured_runs
        found = [call(images(batch, seed, dtype=dtype)) for seed in range(5)]
        assert source.callee.num_captured_runs == before + 5
        for seed, output in enumerate(found):
            image = images(batch, seed, dtype=dtype)
            assert torch.equal(output, uncaptured(source, lambda image=image: call(image)))
            torch.testing.assert_close(output, model(image))
    assert source.callee.captured_bytes > 0


def test_inputs_of_any_strides_are_right() -> None:
    model = Network()
    source = traced(model, images(2))
    call = caller(source)
    wide = torch.randn(2, 40, 24, 20)
    for image in (
        images(2).contiguous(memory_format=torch.channels_last),
        wide[:, 4:36],
        images(2).transpose(2, 3).contiguous().transpose(2, 3),
        images(1).expand(2, -1, -1, -1),
        torch.randn(2, 32, 24 * 20, 40)[..., 0].unflatten(2, (24, 20)),
    ):
        for _ in range(WARM_UP + 1):
            found = call(image)
        torch.testing.assert_close(found, model(image))


def test_an_output_is_its_callers() -> None:
    source = traced(Network(), images(1))
    call = caller(source)
    outputs = [call(images(1, seed)) for seed in range(WARM_UP + 3)]
    copies = [output.clone() for output in outputs]
    with torch.inference_mode():
        outputs[-1].zero_()
    call(images(1, 99))
    assert all(map(torch.equal, outputs[:-1], copies[:-1]))
    assert torch.equal(call(images(1, WARM_UP + 2)), copies[-1])


class Several(nn.Module):
    """Outputs in a structure, with one that is a view of another's memory if so wished."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = Layer(torch.float32)
        self.kind = kind

    def forward(self, image: Tensor) -> Any:
        first = self.layer(image)
        if self.kind == "tuple":
            return first, self.layer(first)
        if self.kind == "list":
            return [first, self.layer(first)]
        if self.kind == "views of one":
            return first[:, :16], first[:, 16:]
        if self.kind == "the input":
            return first, image
        return first[:, :, ::2]


@pytest.mark.parametrize("kind", ["tuple", "list", "views of one", "the input", "a slice"])
def test_outputs_in_a_structure(kind: str) -> None:
    image = images(1).contiguous(memory_format=torch.channels_last)
    trace: Any = torch.jit.trace
    script = torch.jit.freeze(
        trace(Several(kind).eval(), (image,), check_trace=False, strict=False)
    )
    source = Source(script)
    call = caller(source)
    for seed in range(WARM_UP + 3):
        image = images(1, seed).contiguous(memory_format=torch.channels_last)
        found, expected = call(image), Several(kind)(image)
        assert type(found) is type(expected)
        torch.testing.assert_close(found, expected)
    captures = kind in ("tuple", "list", "a slice")
    assert (source.callee.num_captured_runs > 0) == captures


class Odd(nn.Module):
    """Something between two layers that cannot be done again as it was."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = Layer(torch.float32)
        self.kind = kind
        self.register_buffer("offset", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        image = self.layer(image)
        if self.kind == "in place":
            image.mul_(2)
        elif self.kind == "numbers decide the shape":
            return self.layer(image)[image > 1]
        elif self.kind == "numbers decide what is seen":
            image = torch.narrow(image, 0, (image[0, 0, 0, 0] > 0).long(), 1)
        elif self.kind == "a number of a tensor":
            image = image * int(image.sum() > 4000)
        elif self.kind == "another size each time":
            return self.layer(image).masked_select(image > 1)
        return self.layer(image.contiguous(memory_format=torch.channels_last))


CANNOT = ["in place", "numbers decide the shape", "another size each time"]


@pytest.mark.parametrize("kind", [*CANNOT, "numbers decide what is seen"])
def test_what_cannot_be_done_again_runs_as_usual(kind: str) -> None:
    image = images(2).contiguous(memory_format=torch.channels_last)
    model = Odd(kind)
    source = traced(model, image)
    call = caller(source)
    for seed in range(WARM_UP + 5):
        image = images(2, seed).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(call(image), model(image))
    # Where only another size tells, nothing is captured any more once one has come.
    assert source.callee.num_captured_runs == 0 or kind == "numbers decide what is seen"


class Listed(nn.Module):
    """Reads numbers of a tensor as numbers of Python, without an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.jit.trace(Layer(torch.float32).eval(), (images(1),))

    def forward(self, image: Tensor, lengths: Tensor) -> Tensor:
        sizes: list[int] = lengths.tolist()
        image = self.layer(image.split(sizes, 0)[0])
        return image


def test_numbers_of_a_tensor_are_read_anew() -> None:
    script = torch.jit.freeze(torch.jit.script(Listed().eval()))
    source = Source(script)
    call = caller(source)
    for first in (1, 2, 1, 1, 2, 2, 1):
        image = images(3).contiguous(memory_format=torch.channels_last)
        assert len(call(image, torch.tensor([first, 3 - first]))) == first
    assert source.callee.num_captured_runs == 0


class Optional(nn.Module):
    """A graph with an input that may be absent, and one that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = pack_linear(torch.randn(32, 32) / 6)

    def forward(self, x: Tensor, unused: Tensor) -> Tensor:
        return linear(x, self.weight, out_features=32)


def test_an_input_that_is_absent_or_sparse_is_none_of_a_captures_business() -> None:
    x = torch.randn(4, 32)
    source = traced(Optional(), x, x)
    call = caller(source)
    for unused in (None, x.to_sparse(), x):
        for _ in range(WARM_UP + 2):
            torch.testing.assert_close(call(x, unused), call(x, x))


class Lookup(nn.Module):
    """Fails for some numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 32)
        self.weight = pack_linear(torch.randn(32, 32) / 6)

    def forward(self, index: Tensor) -> Tensor:
        found = self.table(index)
        for _ in range(3):
            found = linear(found, self.weight, out_features=32)
        return found


def test_an_error_of_an_operator_reaches_the_caller_and_the_next_call_is_right() -> None:
    model = Lookup()
    source = traced(model, torch.tensor([1, 2]))
    call = caller(source)
    for _ in range(WARM_UP + 1):
        call(torch.tensor([1, 2]))
    assert source.callee.num_captured_runs == 1
    with pytest.raises(RuntimeError, match="out of range"):
        call(torch.tensor([1, 99]))
    torch.testing.assert_close(call(torch.tensor([7, 3])), model(torch.tensor([7, 3])))
    assert source.callee.num_captured_runs == 2


class Tables(nn.Module):
    """All of it is done again without torch."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(8, 32)
        self.weight = pack_linear(torch.randn(32, 64) / 8)

    def forward(self, indices: Tensor) -> Tensor:
        parts = [EmbeddingPart(index=indices[:, i], table=self.table) for i in range(2)]
        joined = joined_embeddings(parts) + joined_embeddings(parts[::-1])
        return linear(joined, self.weight, out_features=32)


def test_an_index_without_a_row_is_an_error_each_time() -> None:
    model = Tables()
    good, bad = torch.tensor([[1, 7], [0, 3]]), torch.tensor([[1, 8], [0, 3]])
    source = traced(model, good)
    call = caller(source)
    for _ in range(WARM_UP + 1):
        call(good)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="from 0 to their table's last row"):
            call(bad)
        torch.testing.assert_close(call(good.flip(0)), model(good.flip(0)))
    assert source.callee.num_captured_runs == 3


def test_other_dtypes_and_kinds_of_input_are_not_taken_for_the_captured_ones() -> None:
    model = Lookup()
    source = traced(model, torch.tensor([1, 2]))
    call = caller(source)
    for index in (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32), torch.tensor([5])):
        for _ in range(WARM_UP + 1):
            found = call(index)
        torch.testing.assert_close(found, model(index))


@pytest.mark.parametrize("num_streams", [1, 2, 4])
def test_streams_have_memory_of_their_own(num_streams: int) -> None:
    model = Network()
    source = traced(model, images(2))
    pool = CPUPool() if num_streams <= 2 else None
    streams = (
        [MultiStreamModule(source, num_streams, pool)]
        if pool
        else [MultiStreamModule(source, 2), MultiStreamModule(source, 2)]
    )
    expected = [model(images(4, seed)) for seed in range(4)]
    barrier = threading.Barrier(4)
    wrong: list[int] = []

    def work(seed: int) -> None:
        with torch.inference_mode():
            barrier.wait()
            for turn in range(30):
                found = streams[seed % len(streams)](images(4, seed))
                if not torch.allclose(found, expected[seed], atol=1e-3, rtol=1e-3):
                    wrong.append(turn)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert source.callee.num_captured_runs > 0


def test_a_profiler_sees_the_operators() -> None:
    source = traced(Network(), images(1))
    call = caller(source)
    for _ in range(WARM_UP + 1):
        call(images(1))
    before = source.callee.num_captured_runs
    with torch.profiler.profile() as profiler:
        call(images(1))
    assert source.callee.num_captured_runs == before
    names = {event.key for event in profiler.key_averages()}
    assert "corestream::convolution" in names


def test_gradients_of_inputs_are_kept() -> None:
    image = images(1).contiguous(memory_format=torch.channels_last)
    model = Several("tuple")
    source = traced(model, image)
    task = Task(source, CPUPool(CPUPool().core_ids[:1]))
    for _ in range(WARM_UP + 2):
        leaf = image.clone().requires_grad_()
        first, _ = task(leaf).get()
        first.sum().backward()
        assert leaf.grad is not None


class Copy(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return max_pool(image, (1, 1))


def test_captures_hold_a_limited_amount_of_memory() -> None:
    small, large = (torch.zeros(1, 64, size, size) for size in (8, 1100))
    large = large.contiguous(memory_format=torch.channels_last)
    small = small.contiguous(memory_format=torch.channels_last)
    source = traced(Copy(), small)
    call = caller(source)
    for _ in range(WARM_UP + 2):
        call(large)
    assert source.callee.num_captured_runs == 2
    assert source.callee.captured_bytes > 256 << 20
    for _ in range(WARM_UP + 2):
        assert torch.equal(call(small), small)
    assert source.callee.num_captured_runs == 2


def test_by_itself_a_model_is_captured_where_that_is_measured_to_be_faster() -> None:
    model = Tables()
    indices = torch.tensor([[1, 7], [0, 3]])
    source = traced(model, indices)
    assert source.callee.captures == "always"
    source.callee.captures = "measured"
    call = caller(source)
    counts = []
    for _ in range(40):
        torch.testing.assert_close(call(indices), model(indices))
        counts.append(source.callee.num_captured_runs)
    # Two calls settle, five are timed as usual, one captures, and five are timed again.
    assert counts[:13] == [0] * 8 + [1, 2, 3, 4, 5]
    assert counts[-1] in (5, 32)
    assert (source.callee.captured_bytes > 0) == (counts[-1] == 32)


def test_when_to_capture_is_one_of_three_words() -> None:
    source = traced(Tables(), torch.tensor([[1, 7]]))
    with pytest.raises(ValueError, match="'measured', 'always' or 'never'"):
        source.callee.captures = "sometimes"
