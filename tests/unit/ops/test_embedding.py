from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from corestream.ops import EmbeddingPart, joined_embeddings


def lookup(batch, width, *, rows=50, dtype=torch.float32, index_dtype=torch.int64, seed=0):
    """A part, and what it should be."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(rows, width, generator=generator).to(dtype)
    index = torch.randint(0, rows, (batch,), generator=generator).to(index_dtype)
    return EmbeddingPart(index=index, table=table), functional.embedding(index.long(), table)


@given(
    batch=st.integers(0, 70),
    widths=st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=6),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int32]),
    index_dtype=st.sampled_from([torch.int64, torch.int32]),
    threads=st.integers(1, 2),
)
def test_as_the_concatenation_of_embeddings(batch, widths, dtype, index_dtype, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts, expected = [], []
        for seed, (width, is_matrix) in enumerate(widths):
            part, rows = lookup(batch, width, dtype=dtype, index_dtype=index_dtype, seed=seed)
            parts.append(rows if is_matrix else part)
            expected.append(rows)
        actual = joined_embeddings(parts)
    finally:
        torch.set_num_threads(before)
    assert actual.dtype == dtype
    assert torch.equal(actual, torch.cat(expected, 1))


def test_columns_of_one_tensor_of_indices_and_matrices_of_any_stride():
    indices = torch.randint(0, 50, (300, 4))
    table = torch.randn(50, 96)[:, ::2]
    matrix = torch.randn(30, 300).t()
    parts = [matrix, *(EmbeddingPart(index=indices[:, i], table=table) for i in range(4))]
    expected = torch.cat([matrix, *(table[indices[:, i]] for i in range(4))], 1)
    assert torch.equal(joined_embeddings(parts), expected)


@pytest.mark.parametrize("index", [-1, 50, 2**40])
@pytest.mark.parametrize("batch", [1, 3000])
def test_an_index_without_a_row_is_an_error(index, batch):
    part, _ = lookup(batch, 64)
    part.index[-1] = index
    with pytest.raises(IndexError, match="from 0 to their table's last row"):
        joined_embeddings([part, part])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"index": torch.zeros(2, 2, dtype=torch.int64)}, "1 dim"),
        ({"index": torch.zeros((), dtype=torch.int64)}, "1 dim"),
        ({"index": torch.zeros(2)}, "int64 or int32"),
        ({"index": torch.zeros(3, dtype=torch.int64)}, "one batch"),
        ({"table": torch.zeros(5)}, "2 dims"),
        ({"table": torch.zeros(50, 4, dtype=torch.float64)}, "one dtype"),
    ],
)
def test_what_does_not_fit_is_refused(change, reason):
    part, _ = lookup(2, 4)
    other = EmbeddingPart(**{"index": part.index, "table": part.table, **change})
    with pytest.raises(RuntimeError, match=reason):
        joined_embeddings([part, other])


def test_there_must_be_a_part():
    with pytest.raises(ValueError, match="must hold a part"):
        joined_embeddings([])


def test_gradients_reach_tables_and_matrices():
    part, _ = lookup(5, 8)
    table = part.table.double().requires_grad_()
    matrix = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def join(table, matrix):
        return joined_embeddings([matrix, EmbeddingPart(index=part.index, table=table)])

    assert torch.autograd.gradcheck(join, (table, matrix))


def test_the_shape_is_known_without_data():
    with FakeTensorMode():
        part = EmbeddingPart(index=torch.zeros(7, dtype=torch.int64), table=torch.zeros(9, 5))
        assert joined_embeddings([part, torch.zeros(7, 2), part]).shape == (7, 12)


def test_autocast_promotes_rows_as_cat_does():
    part, rows = lookup(5, 8)
    half = torch.randn(5, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(joined_embeddings([half, part]), torch.cat([half, rows], 1))
        assert torch.equal(joined_embeddings([part, part]), torch.cat([rows, rows], 1))
