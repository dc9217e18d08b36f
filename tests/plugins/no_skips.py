"""In CI a skipped test fails the run: what no environment runs is not tested."""

from __future__ import annotations

import os

import pytest


class NoSkips:
    def __init__(self) -> None:
        self.skipped: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # An expected failure also reports itself as skipped, but it ran.
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    pytest_runtest_logreport = _note
    pytest_collectreport = _note

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.skipped:
            return
        terminalreporter.section("skipped, and CI is set", red=True)
        for nodeid in self.skipped:
            terminalreporter.line(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    if "CI" in os.environ:
        config.pluginmanager.register(NoSkips(), "corestream-no-skips")
