"""Lines of several instances do not run into each other, and lose nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corestream.launch.lines import Lines


def passed_on(chunks: list[bytes], prefix: bytes = b"[1] ") -> list[bytes]:
    written: list[bytes] = []
    lines = Lines(written.append, prefix=prefix)
    for chunk in chunks:
        lines.feed(chunk)
    lines.end()
    return written


def test_each_line_has_the_prefix():
    assert passed_on([b"a\nb\n\nc"]) == [b"[1] a\n[1] b\n[1] \n", b"[1] c\n"]


def test_a_line_in_pieces_is_passed_on_whole():
    assert passed_on([b"half", b" and half\nne", b"xt\n"]) == [
        b"[1] half and half\n",
        b"[1] next\n",
    ]


def test_progress_bars_end_their_lines_with_a_return():
    assert b"".join(passed_on([b"10%\r20%\r", b"30%\r\nend"])) == (
        b"[1] 10%\r[1] 20%\r[1] 30%\r\n[1] end\n"
    )


def test_a_line_without_end_is_not_kept_for_ever():
    written = passed_on([b"x" * 50_000, b"x" * 50_000])
    assert written == [b"[1] " + b"x" * 100_000 + b"\n"]


def test_without_a_prefix_nothing_is_changed_or_kept_back():
    assert passed_on([b"ab", b"\rc"], prefix=b"") == [b"ab", b"\rc"]


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\r", b"\n"))))
def test_no_byte_is_lost_however_it_is_cut(chunks):
    text = b"".join(chunks)
    expected = b"".join(b"[1] " + line + b"\n" for line in text.split(b"\n")[:-1])
    if text and not text.endswith(b"\n"):
        expected += b"[1] " + text.rpartition(b"\n")[2] + b"\n"
    assert b"".join(passed_on(chunks)) == expected
