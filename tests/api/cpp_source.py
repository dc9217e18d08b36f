"""Just enough reading of C++ for the lints: comments and strings blanked, functions measured.

It relies on clang-format's style: a block's brace follows a space, an initializer's does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NOT_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"'
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""",
    re.DOTALL,
)
_DIGIT_SEPARATOR = re.compile(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])")
_PREPROCESSOR = re.compile(r"^[ \t]*#(?:.*\\\n)*.*$", re.MULTILINE)
_ACCESS = re.compile(r"\s*(?:public|protected|private):")
_SCOPE = re.compile(
    r"\s*(?:template\s*<.*>\s*)?(?:(?:class|struct|union|enum|namespace)\b|extern\s*$)", re.DOTALL
)


def _newlines(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


def without_comments_and_strings(source: str) -> str:
    """The same lines, with every comment and literal's text gone."""
    return _NOT_CODE.sub(_newlines, _DIGIT_SEPARATOR.sub("", source))


@dataclass(frozen=True)
class Function:
    line: int
    num_lines: int


@dataclass(frozen=True)
class _Brace:
    is_block: bool
    function_at: int | None  # where the header of the function starts whose body this is


def _open(code: str, header_at: int, at: int) -> _Brace:
    access = _ACCESS.match(code, header_at, at)
    header_at = access.end() if access else header_at
    header = code[header_at:at]
    is_block = header[-1:].isspace() and not header.rstrip().endswith(("=", "(", ","))
    if not is_block or "(" not in header or _SCOPE.match(header):
        return _Brace(is_block, None)
    return _Brace(is_block, header_at + len(header) - len(header.lstrip()))


def functions(source: str) -> Iterator[Function]:
    """The outermost function bodies with where they start; lambdas count with their function."""
    code = _PREPROCESSOR.sub(_newlines, without_comments_and_strings(source))
    header_at, stack = 0, list[_Brace]()
    for at in (match.start() for match in re.finditer(r"[{};]", code)):
        if code[at] == "{":
            stack.append(_open(code, header_at, at))
        elif code[at] == "}" and stack:
            closed = stack.pop()
            in_function = any(brace.function_at is not None for brace in stack)
            if closed.function_at is not None and not in_function:
                line = code.count("\n", 0, closed.function_at) + 1
                yield Function(line, code.count("\n", closed.function_at, at) + 1)
            if not closed.is_block:
                continue  # an initializer: the header goes on behind it
        if code[at] != "{" or stack[-1].is_block:
            header_at = at + 1
