"""The house keeps its shape: short files, short functions, little nesting."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

import heteroseg

SOURCE = Path(heteroseg.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, FUNCTIONS))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return function.end_lineno - function.lineno + 1


def depth(node: ast.AST) -> int:
    """How deep blocks lie in one another; `elif` is no deeper than its `if`, a function inside begins anew."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        children = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, ast.AST)]
        for child in children:
            if isinstance(child, FUNCTIONS):
                continue
            is_elif = name == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If) and len(children) == 1
            deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_are_short_and_flat(path):
    assert path.read_text(encoding="utf-8").count("\n") <= 400
    for function in functions(path):
        assert length(function) <= 60, function.name
        assert depth(function) <= 5, function.name


def test_most_functions_are_very_short():
    assert median(length(f) for path in FILES for f in functions(path)) < 10
