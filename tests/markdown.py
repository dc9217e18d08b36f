"""What the tests of the documentation need of Markdown: code blocks, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[1]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w+-]*)[^\n]*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)|!\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")


def pages() -> list[Path]:
    folders = [REPO / name for name in ("docs", "examples", "benchmarks", "csrc", "tests")]
    found = sorted(REPO.glob("*.md"))
    return found + [page for folder in folders for page in sorted(folder.rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    language: str
    line: int  # of its first line of code, from 1
    code: str


def blocks(text: str) -> Iterator[Block]:
    opening, lines, start = None, [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if opening is None:
            if match:
                opening, lines, start = match, [], number + 1
        elif match and match["fence"].startswith(opening["fence"]) and not match["language"]:
            yield Block(language=opening["language"], line=start, code="\n".join(lines) + "\n")
            opening = None
        else:
            lines.append(line.removeprefix(opening["indent"]))
    if opening is not None:
        raise ValueError(f"the code block that starts in line {start - 1} must be closed")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside code blocks, with code spans removed."""
    opening = None
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if opening is None and match:
            opening = match
        elif opening is None:
            yield number, re.sub(r"`[^`]*`", "", line)
        elif match and match["fence"].startswith(opening["fence"]) and not match["language"]:
            opening = None


def links(text: str) -> Iterator[tuple[int, str]]:
    """(line, target) of every link and image."""
    # A link's text may be a code span; only its target matters here.
    for number, line in prose(text):
        for match in _LINK.finditer(line):
            yield number, match.group(1) or match.group(2)


def anchors(text: str) -> set[str]:
    """The fragments that its headings can be reached by, as GitHub forms them."""
    found: set[str] = set()
    opening = None
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence:
            opening = None if opening else fence
        heading = None if opening else _HEADING.match(line)
        if heading:
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1))
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            repeated = sum(1 for a in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", a))
            found.add(f"{slug}-{repeated}" if repeated else slug)
    return found
