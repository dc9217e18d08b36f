"""Every link between the pages of this repository leads somewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.markdown import REPO, anchors, blocks, links, pages


def violations(page: Path, text: str) -> list[str]:
    found = []
    for line, link in links(text):
        url = urlsplit(link)
        if url.scheme:
            continue  # another site
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        where = f"{page.relative_to(REPO)}:{line}: {link}"
        if not target.is_relative_to(REPO) or not (target.exists() or target == page):
            found.append(f"{where} does not exist")
        elif url.fragment and target.suffix == ".md":
            headings = anchors(text if target == page else target.read_text())
            if url.fragment not in headings:
                found.append(f"{where} has no such heading")
    return found


def test_links_lead_somewhere():
    found = [violation for page in pages() for violation in violations(page, page.read_text())]
    assert pages()
    assert not found, "\n".join(found)


def test_planted_links_are_found():
    text = "# A b\n[x](gone.md) [y](#a-b) [z](#c)\n```\n[in code](gone.md)\n```\n[`p`](LICENSE)\n"
    found = violations(REPO / "page.md", text)
    assert [v.split(": ")[1] for v in found] == ["gone.md does not exist", "#c has no such heading"]


def test_blocks_are_read():
    text = "a\n```python\nx = 1\n```\n- item\n  ```sh\n  ls\n  ```\n"
    assert [(b.language, b.line, b.code) for b in blocks(text)] == [
        ("python", 3, "x = 1\n"),
        ("sh", 7, "ls\n"),
    ]
