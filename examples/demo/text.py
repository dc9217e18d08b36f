"""Real English to search in: sentences of Python's language reference, which Python ships."""

from __future__ import annotations

import re
from pydoc_data.topics import topics

QUERY = "What does a loop do when its items run out?"

_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_SENTENCE_BREAK = re.compile(r"(?<=[.])\s+(?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][\w ,;:'’“”\"()\-–.]+\.")
# Grammar, code, headings and tables, as the reference's plain text sets them.
_NOT_PROSE = re.compile(r"^\s{4,}|::=|^[*=\-]{3}", re.MULTILINE)
_NUM_WORDS = range(8, 26)


def load_sentences(num_sentences: int) -> list[str]:
    """`num_sentences` different sentences, taken evenly from the whole reference."""
    openings = (sentence for text in topics.values() for sentence in _openings(text))
    found = [
        sentence
        for sentence in dict.fromkeys(openings)
        if _SENTENCE.fullmatch(sentence) and len(sentence.split()) in _NUM_WORDS
    ]
    step = max(1, len(found) // num_sentences)
    return found[::step][:num_sentences]


def _openings(text: str) -> list[str]:
    """The first sentence of each paragraph: later ones mean little out of their context."""
    paragraphs = [part for part in _PARAGRAPH_BREAK.split(text) if not _NOT_PROSE.search(part)]
    return [_SENTENCE_BREAK.split(" ".join(each.split()))[0] for each in paragraphs]
