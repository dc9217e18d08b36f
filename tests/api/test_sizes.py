"""Files of at most 500 lines, functions of at most 60, two positional parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.api import cpp_source
from tests.api.source_tree import REPO, cpp_files, files, package_modules, parse, show

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_POSITIONAL = 2

PYTHON_FOLDERS = ("src", "tests", "benchmarks", "examples", "scripts")
CPP_FOLDERS = ("csrc", "include", "tests", "examples")

# Called as what they replace is: programs are to change their import, not their calls; and what
# takes the arguments of a call of torch's as they come.
DROP_INS = {
    ("src/corestream/lowering/own_calls.py", "of"),
    ("src/corestream/lowering/own_calls.py", "with_norm"),
    ("src/corestream/lowering/own_embeddings.py", "of"),
    ("src/corestream/ops/attention.py", "attention"),
    ("src/corestream/runtime/streams.py", "__init__"),
}

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


def all_functions(tree: ast.AST) -> Iterator[AnyFunction]:
    return (node for node in ast.walk(tree) if isinstance(node, AnyFunction))


def num_lines(function: AnyFunction) -> int:
    """Lines of the function without its docstring, which is asked to be complete instead."""
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        count -= docstring.end_lineno - docstring.lineno + 1
    return count


def public_functions(tree: ast.Module) -> Iterator[tuple[AnyFunction, bool]]:
    """(function, is a method) of what callers may call; special methods have given signatures."""
    for node in tree.body:
        if isinstance(node, AnyFunction) and not node.name.startswith("_"):
            yield node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                is_function = isinstance(member, AnyFunction)
                if is_function and (member.name == "__init__" or member.name[0] != "_"):
                    yield member, True


def num_positional(function: AnyFunction, is_method: bool) -> int:
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    count = len(function.args.posonlyargs) + len(function.args.args)
    return count - (is_method and "staticmethod" not in decorators)


def test_files_are_short():
    paths = [path for folder in PYTHON_FOLDERS for path in files(REPO / folder, ".py", ".pyi")]
    paths += cpp_files(*CPP_FOLDERS)
    lengths = {show(path): len(path.read_text().splitlines()) for path in paths}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_python_functions_are_short():
    found = {}
    for folder in PYTHON_FOLDERS:
        for path in files(REPO / folder, ".py"):
            for function in all_functions(parse(path)):
                if num_lines(function) > MAX_FUNCTION_LINES:
                    found[show(path, function.lineno)] = (function.name, num_lines(function))
    assert found == {}


def test_cpp_functions_are_short():
    found = {}
    for path in cpp_files(*CPP_FOLDERS):
        for function in cpp_source.functions(path.read_text()):
            if function.num_lines > MAX_FUNCTION_LINES:
                found[show(path, function.line)] = function.num_lines
    assert found == {}


def test_public_functions_have_few_positional_parameters():
    found = {}
    for path in package_modules():
        for function, is_method in public_functions(parse(path)):
            if (show(path), function.name) in DROP_INS:
                continue
            if num_positional(function, is_method) > MAX_POSITIONAL:
                found[show(path, function.lineno)] = function.name
    assert found == {}, "make all but two keyword-only"


def test_python_measures():
    tree = ast.parse(
        'class A:\n    def f(self, a, b, /, *args, c):\n        """Doc.\n\n        More.\n'
        '        """\n        return a\n    @staticmethod\n    def g(a, b, c): ...\n'
        "    def __exit__(self, a, b, c): ...\ndef h(a, b, c): ...\ndef _p(a, b, c): ...\n"
    )
    measured = {f.name: num_positional(f, m) for f, m in public_functions(tree)}
    assert measured == {"f": 2, "g": 3, "h": 3}
    assert num_lines(next(all_functions(tree.body[0]))) == 2


def test_cpp_measures():
    source = """\
namespace a {
// void not_code() {
class B : public C {
 public:
  B(int x) : x_{x}, y_{f({1, 2})} {
    if (x) {
      g("}");
    }
  }
  int table_[2] = {1, 2};
};
template <typename T>
struct D {
  T value() const { return value_; }
};
int main() {
  auto l = [&](int i) {
    return i;
  };
  for (int i = 0; i < 1'000; ++i) {
    char c = '{';
  }
}
}  // namespace a
"""
    measured = [(f.line, f.num_lines) for f in cpp_source.functions(source)]
    assert measured == [(5, 5), (14, 1), (16, 8)]
