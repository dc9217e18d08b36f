"""The guards that run around every test do bite."""

from __future__ import annotations

import textwrap

import pytest

from tests.api.source_tree import REPO


@pytest.fixture
def run_planted(pytester, monkeypatch):
    """Runs a planted test file under both plugins, in a process of its own."""

    def run(source: str) -> pytest.RunResult:
        monkeypatch.setenv("PYTHONPATH", str(REPO))
        pytester.makepyfile(textwrap.dedent(source))
        plugins = ["-p", "tests.plugins.no_skips", "-p", "tests.plugins.state_guard"]
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *plugins)

    return run


def test_a_change_of_the_environment_fails_one_test(run_planted):
    result = run_planted("""
        import os

        def test_changes():
            os.environ["PLANTED"] = "1"

        def test_after():
            assert "PLANTED" not in os.environ
    """)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*environ: PLANTED None -> '1'*"])


def test_a_thread_that_stays_fails(run_planted):
    result = run_planted("""
        import threading
        from pathlib import Path
        from tests.plugins import state_guard

        state_guard.THREADS_GONE_WITHIN_S = 0.0

        def test_leaves_a_thread():
            named, end = threading.Event(), threading.Event()

            def work():
                Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("cs-planted")
                named.set()
                end.wait()

            threading.Thread(target=work, daemon=True).start()
            assert named.wait(timeout=30)
    """)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*stream_threads: 0 -> 1*"])


def test_torch_threads_are_put_back(run_planted):
    result = run_planted("""
        import sys
        import types

        torch = types.ModuleType("torch")
        torch.threads = 4
        torch.get_num_threads = lambda: torch.threads
        torch.set_num_threads = lambda n: setattr(torch, "threads", n)
        torch.manual_seed = lambda seed: None
        sys.modules["torch"] = torch

        def test_changes():
            torch.set_num_threads(1)

        def test_after():
            assert torch.threads == 4
    """)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*torch_threads: 4 -> 1*"])


@pytest.mark.parametrize(("ci", "exit_code"), [(None, 0), ("true", 1)])
def test_a_skip_fails_in_ci_only(run_planted, monkeypatch, ci, exit_code):
    monkeypatch.delenv("CI", raising=False)
    if ci:
        monkeypatch.setenv("CI", ci)
    result = run_planted("""
        import pytest

        @pytest.mark.skip(reason="planted")
        def test_skipped(): ...

        @pytest.mark.xfail(strict=True)
        def test_expected_failure():
            raise RuntimeError
    """)
    assert result.ret == exit_code
