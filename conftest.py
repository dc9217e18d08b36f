from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.plugins.no_skips", "tests.plugins.state_guard"]

# A shell that starts a job in the background has it ignore interrupts, nohup hang-ups; some tests
# send both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TESTS = Path(__file__).parent / "tests"

# No test is timed. In CI the same examples are tried each time, so that a red run can be repeated.
settings.register_profile(
    "corestream", deadline=None, derandomize="CI" in os.environ, print_blob=True
)
settings.load_profile("corestream")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Keeps --doctest-modules from importing the programs that tests run in subprocesses."""
    is_program = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if is_program and TESTS in collection_path.parents else None


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is compiled here, and by programs that tests start, stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
