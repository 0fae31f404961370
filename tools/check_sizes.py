"""Check the sizes of modules and functions: `python tools/check_sizes.py mrqm pipelines`.

A module has at most 250 lines. A function has at most 40, without its docstring; that of a command is measured without
its signature, which is its documentation. The number of parameters is checked by ruff.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 250
FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(paths: list[str]) -> int:
    """Check all Python files under the given paths and print `file:line: message` for each one that is too long.

    Args:
        paths: files or folders.

    Returns:
        The exit code: 0 if all are short enough, 1 if not, 2 if there is nothing to check.
    """
    files = sorted(file for path in map(Path, paths) for file in (path.rglob("*.py") if path.is_dir() else [path]))
    if not files:
        print("no Python files; usage: python tools/check_sizes.py FOLDER_OR_FILE...", file=sys.stderr)
        return 2
    found = [(file, one) for file in files for one in check_source(file.read_text(encoding="utf-8"))]
    for file, (line, message) in found:
        print(f"{file}:{line}: {message}")
    return 1 if found else 0


def check_source(source: str) -> list[tuple[int, str]]:
    """List line and message of what is too long in one module."""
    return [*_check_module(source), *_check_functions(ast.parse(source))]


def _check_module(source: str) -> Iterator[tuple[int, str]]:
    lines = len(source.splitlines())
    if lines > MODULE_LINES:
        yield 1, f"the module has {lines} lines, more than {MODULE_LINES}; split it by concept"


def _check_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    for function in sorted(functions, key=lambda function: function.lineno):
        if (lines := _count_lines(function)) > FUNCTION_LINES:
            yield function.lineno, f"{function.name} has {lines} lines, more than {FUNCTION_LINES}"


def _count_lines(function: Function) -> int:
    """Count the lines of a function without its docstring, its commands and, for a command, its signature."""
    first = function.body[0].lineno if _is_command(function) else function.lineno
    lines = function.end_lineno - first + 1 if function.end_lineno else 0
    commands = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    lines -= sum(_lines_of(node) for node in commands if _is_command(node))
    return lines - (_lines_of(function.body[0]) if ast.get_docstring(function) is not None else 0)


def _lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _is_command(function: Function) -> bool:
    """Tell if typer makes a command of the function."""
    return "typer." in ast.unparse(function.args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
