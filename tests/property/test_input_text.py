"""The language of inputs: what it writes it reads, and other text gets a ValueError of one line."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from corestream.measure.input_text import DTYPES, InputSpec, Range, load_inputs, parse_spec

NAMES = st.none() | st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)


@st.composite
def specs(draw) -> InputSpec:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    kind = DTYPES[dtype]
    if kind == torch.bool:
        low, high = sorted(draw(st.tuples(st.integers(0, 1), st.integers(0, 1))))
    elif kind.is_floating_point:
        numbers = st.floats(-1000, 1000, allow_nan=False)
        low, high = sorted(draw(st.tuples(numbers, numbers)))
    else:
        limits = torch.iinfo(kind)
        numbers = st.integers(max(limits.min, -(2**40)), min(limits.max, 2**40))
        low, high = sorted(draw(st.tuples(numbers, numbers)))
    is_closed = low == high or draw(st.booleans())
    values = Range(float(low), float(high), is_closed)
    needs_range = "int" in dtype
    return InputSpec(
        shape, dtype, draw(NAMES), values if needs_range or draw(st.booleans()) else None
    )


@given(specs())
def test_what_is_written_is_read(spec):
    assert parse_spec(str(spec)) == spec


@given(specs())
def test_tensors_are_as_described(spec):
    tensor = spec.tensor(torch.Generator().manual_seed(0))
    assert tensor.shape == spec.shape
    assert tensor.dtype == DTYPES[spec.dtype]
    if spec.values is None or tensor.dtype in (torch.float16, torch.bfloat16, torch.float32):
        return  # rounding to the dtype may step over a bound
    values = tensor.double()
    assert (values >= spec.values.low).all()
    assert (values <= spec.values.high).all()
    if "int" in spec.dtype and not spec.values.is_closed:
        assert (values < spec.values.high).all()


@given(st.lists(st.text(alphabet="1x0[],):=.abint64float32 -e\n", max_size=20), max_size=2))
def test_other_text_is_refused_in_one_line(texts):
    said = "inputs "
    try:
        load_inputs(texts)
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
    assert said.startswith("inputs ")
    assert "\n" not in said
