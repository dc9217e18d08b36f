"""Percentiles are observed values, at the nearest rank."""

from __future__ import annotations

import pytest

from corestream.measure.percentiles import percentile


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 50), (90, 90), (99, 99), (99.1, 100), (100, 100)]
)
def test_ranks_of_a_hundred(percent, expected):
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_rank_is_exact_where_binary_fractions_are_not():
    assert percentile(range(1, 1001), 99.9) == 999


def test_few_samples_have_no_p99_below_their_maximum():
    assert percentile([1.0, 5.0, 2.0], 99) == 5.0
    assert percentile([3.0], 50) == 3.0


@pytest.mark.parametrize("percent", [0, -1, 100.5])
def test_a_wrong_percent_is_named(percent):
    with pytest.raises(ValueError, match=r"^percent must be"):
        percentile([1.0], percent)


def test_no_values_are_an_error():
    with pytest.raises(ValueError, match=r"^values must hold"):
        percentile([], 50)
