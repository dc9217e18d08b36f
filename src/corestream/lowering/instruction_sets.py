"""What a CPU can execute, for compiled models that move between machines."""

from __future__ import annotations

import functools
import re

from corestream.cpu.system_files import SystemFiles

# What a compiler may use by itself under -march=native. The kernel lists much more beside these,
# about timers, caches and virtual machines, that differs between machines which run the same code.
_X86 = re.compile(
    r"(sse.*|pni|ssse3|avx.*|amx.*|fma.*|f16c|bmi\d|abm|popcnt|movbe|adx|cx16|lahf_lm|aes|vaes"
    r"|pclmulqdq|vpclmulqdq|gfni|sha_ni|sha512|xop|tbm)"
)


@functools.cache
def instruction_sets(files: SystemFiles | None = None) -> frozenset[str]:
    """The instruction sets of this machine's CPUs, by the kernel's names; empty if unknown."""
    text = (files or SystemFiles()).read("proc/cpuinfo") or ""
    found: list[set[str]] = []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        match name.strip():
            case "flags":
                found.append({flag for flag in value.split() if _X86.fullmatch(flag)})
            case "Features":  # Arm: all of them are instructions
                found.append(set(value.split()))
    # Big and little cores: a thread may run on any.
    return frozenset(set.intersection(*found)) if found else frozenset()
