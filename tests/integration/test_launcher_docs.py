"""The launcher's page names every option: ours, and those of the launcher in torch."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

from corestream.launch import LaunchOptions
from corestream.launch.environment import INDEX, NUMBER
from tests.markdown import REPO

PAGE = (REPO / "docs" / "launcher.md").read_text()


def test_every_option_is_documented():
    types = get_type_hints(LaunchOptions, include_extras=True)
    missing = []
    for field in fields(LaunchOptions):
        if field.name == "command":
            continue
        flags = get_args(types[field.name])[1].flags or (f"--{field.name.replace('_', '-')}",)
        names = [name for flag in flags for name in flag.split("/")]
        if not any(re.search(rf"`[^`\n]*{re.escape(name)}\b", PAGE) for name in names):
            missing.append(field.name)
    assert missing == []


def test_every_variable_is_documented():
    for name in (INDEX, NUMBER, "OMP_NUM_THREADS", "MALLOC_CONF", "KMP_BLOCKTIME"):
        assert f"`{name}`" in PAGE


def test_every_option_of_run_cpu_has_its_place():
    torch = Path(find_spec("torch").origin).parent  # without importing it
    source = (torch / "backends" / "xeon" / "run_cpu.py").read_text()
    options = set(re.findall(r'^ +"(--[a-z-]+)",$', source, re.M))
    assert {"--ninstances", "--rank", "--disable-iomp", "--no-python"} <= options
    assert sorted(option for option in options if f"`{option}" not in PAGE) == []
