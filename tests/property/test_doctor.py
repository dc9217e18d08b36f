"""Whatever stands in the environment, every check answers, and in one of the four levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corestream.doctor.checks import examine
from corestream.doctor.finding import Level
from corestream.doctor.variables import KNOWN
from tests.unit.doctor.environments import ENVIRONMENTS, facts_of

VALUES = st.one_of(
    st.sampled_from(["0", "1", "4,2", "-1", "true", "close", "cores", "", "MKL_DOMAIN_ALL=2"]),
    st.text(max_size=12),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return facts_of(ENVIRONMENTS["AVX2 only"], tmp_path_factory.mktemp("machine"))


@given(environ=st.dictionaries(st.sampled_from(sorted(KNOWN)), VALUES), has_torch=st.booleans())
def test_any_environment_is_judged(base, environ, has_torch):
    facts = replace(base, process=replace(base.process, environ=environ))
    findings = examine(facts if has_torch else replace(facts, torch=None, team=None))
    assert {finding.level for finding in findings} <= set(Level)
    assert all(finding.value for finding in findings)
    titles = [finding.title for finding in findings]
    assert len(set(titles)) == len(titles)
