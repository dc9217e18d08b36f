"""What is known of OpenMP runtimes from outside."""

from __future__ import annotations

import pytest

from corestream.cpu.openmp import affinity_settings, mapped_code


@pytest.mark.parametrize(
    ("environ", "runtime", "found"),
    [
        ({"OMP_PROC_BIND": "close"}, "libgomp", ("OMP_PROC_BIND=close",)),
        ({"OMP_PROC_BIND": "FALSE", "KMP_AFFINITY": "none"}, None, ()),
        ({"KMP_AFFINITY": "compact"}, "libgomp", ()),
        ({"KMP_AFFINITY": "compact"}, "libiomp5", ("KMP_AFFINITY=compact",)),
        ({"GOMP_CPU_AFFINITY": "0", "OMP_PLACES": ""}, None, ("GOMP_CPU_AFFINITY=0",)),
    ],
)
def test_what_moves_threads(environ, runtime, found):
    assert affinity_settings(environ, runtime) == found


MAPS = """\
7f0000001000-7f0000002000 r--p 00000000 00:2a 123  /lib/libgomp.so.1
7f0000002000-7f0000004000 r-xp 00001000 00:2a 123  /lib/libgomp.so.1
7f0000005000-7f0000006000 r-xp 00000000 00:2a 124  /a folder/libjemalloc.so.2
7f0000007000-7f0000008000 r-xp 00000000 00:00 0
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0    [vdso]
"""


def test_code_is_what_can_be_executed():
    assert mapped_code(MAPS) == [(range(0x7F0000002000, 0x7F0000004000), "/lib/libgomp.so.1")]
    (found,) = mapped_code(MAPS, names=("libjemalloc",))
    assert found[1] == "/a folder/libjemalloc.so.2"
