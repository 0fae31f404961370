"""Check that docstrings follow the project's style: `python tools/check_docstrings.py mrqm pipelines`.

Three rules that ruff's pydocstyle rules do not have:

1. A docstring opens with an imperative or a noun phrase, not with a question word.
2. An entry under `Args:` or `Attributes:` is a noun phrase: it does not open with a preposition, conjunction or verb.
3. A public function of two or more parameters has `Args:` with all of them, `Returns:` or `Yields:` if it returns
   something, and `Raises:` if it raises an error type that is not built in.

Rule 3 leaves out tests, properties, commands of typer, validators of pydantic and methods marked `@override`, whose
base class documents them.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from pathlib import Path

QUESTION_WORD = re.compile(r"(how|what|when|where|whether|which|who|whom|whose|why)\b", re.IGNORECASE)
NOT_A_NOUN = re.compile(
    rf"{QUESTION_WORD.pattern}|(are|as|at|because|been|by|called|can|did|do|does|for|from|gives|had|has|have|holds|if|in"
    r"|into|is|lets|may|must|of|on|or|raises|returns|says|should|so|takes|tells|than|that|then|to|told|unless|until"
    r"|was|were|will|with|without)\b",
    re.IGNORECASE,
)
UNDOCUMENTED_ELSEWHERE = re.compile(
    r"cached_property|callback|command|computed_field|deleter|field_(serializer|validator)|fixture|getter"
    r"|model_(serializer|validator)|overload|override|property|setter"
)
"""Decorators of functions whose parameters are not documented in `Args:`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Fault = tuple[int, str]


def main(paths: list[str]) -> int:
    """Check all Python files under the given paths and print `file:line: message` for each fault.

    Args:
        paths: files or folders.

    Returns:
        The exit code: 0 without faults, 1 with some, 2 if there is nothing to check.
    """
    files = sorted(file for path in map(Path, paths) for file in (path.rglob("*.py") if path.is_dir() else [path]))
    if not files:
        print("no Python files; usage: python tools/check_docstrings.py FOLDER_OR_FILE...", file=sys.stderr)
        return 2
    faults = [(file, fault) for file in files for fault in check_source(file.read_text(encoding="utf-8"))]
    for file, (line, message) in faults:
        print(f"{file}:{line}: {message}")
    return 1 if faults else 0


def check_source(source: str) -> list[Fault]:
    """List the faults of one module, ordered by line."""
    tree = ast.parse(source)
    texts = [fault for line, text in _docstrings(tree) for fault in _check_text(line, text)]
    signatures = [fault for function in _public_functions(tree) for fault in _check_signature(function)]
    return sorted(texts + signatures)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring, including the strings that follow an assignment."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                text = child.value.value
                if isinstance(text, str):
                    yield child.lineno, text


def _check_text(line: int, text: str) -> Iterator[Fault]:
    if word := _opens_with(QUESTION_WORD, text):
        yield line, f"docstring opens with {word!r}; open it with an imperative or a noun phrase"
    for section in ("Args", "Attributes"):
        for name, (offset, entry) in _entries(text, section).items():
            if word := _opens_with(NOT_A_NOUN, entry):
                yield line + offset, f"{section} entry {name!r} opens with {word!r}; open it with a noun phrase"


def _public_functions(node: ast.Module | ast.ClassDef) -> Iterator[Function]:
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public_functions(child)
        elif isinstance(child, Function) and not child.name.startswith(("_", "test_")):
            decorators = map(_last_name, child.decorator_list)
            if not any(map(UNDOCUMENTED_ELSEWHERE.fullmatch, decorators)) and not _is_command(child):
                yield child


def _is_command(function: Function) -> bool:
    """Tell if typer annotates the arguments, whose help documents them."""
    return "typer." in ast.unparse(function.args)


def _check_signature(function: Function) -> Iterator[Fault]:
    names = _parameters(function)
    if len(names) < 2:
        return
    text = ast.get_docstring(function) or ""
    documented = _entries(text, "Args")
    if missing := [name for name in names if name not in documented]:
        yield function.lineno, f"{function.name}: Args lacks {', '.join(missing)}"
    if _returns_value(function) and not re.search(r"^(Returns|Yields):$", text, re.MULTILINE):
        yield function.lineno, f"{function.name}: Returns is missing"
    raised = sorted(_raised(function))
    stated = text.partition("\nRaises:\n")[2]
    if unstated := [name for name in raised if not re.search(rf"\b{name}\b", stated)]:
        yield function.lineno, f"{function.name}: Raises lacks {', '.join(unstated)}"


def _parameters(function: Function) -> list[str]:
    """List the names of a function's parameters, except self, the class and those that open with an underscore."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [a.arg for a in (*named, *starred) if a.arg not in ("self", "cls") and not a.arg.startswith("_")]


def _returns_value(function: Function) -> bool:
    if function.returns is None:
        return any(isinstance(node, ast.Return | ast.Yield) and node.value for node in _own_nodes(function))
    nothing = r"None|NoReturn|Never|(Async)?(Iterator|Generator)\[None.*"
    return not re.fullmatch(nothing, ast.unparse(function.returns).strip("'"))


def _raised(function: Function) -> set[str]:
    """Collect the error types that the body raises itself, except built-in ones."""
    raised = {_last_name(node.exc) for node in _own_nodes(function) if isinstance(node, ast.Raise) and node.exc}
    return {name for name in raised if name[:1].isupper() and not hasattr(builtins, name)}


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without the functions and classes that it defines."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name that may be called, such as `Exit` of `typer.Exit(2)`."""
    while isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _entries(text: str, section: str) -> dict[str, tuple[int, str]]:
    """Parse a section of a docstring.

    Args:
        text: the docstring.
        section: title of the section, such as `Args`.

    Returns:
        Line within the text and description of each name; `a, b: text` describes both.
    """
    entries: dict[str, tuple[int, str]] = {}
    lines = text.expandtabs().splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip() == f"{section}:"]
    for start in starts[:1]:
        margin = len(lines[start]) - len(lines[start].lstrip())
        inner = 0
        for number in range(start + 1, len(lines)):
            line = lines[number]
            indent = len(line) - len(line.lstrip())
            if line.strip() and indent <= margin:
                break
            inner = inner or indent
            match = re.match(r"([\w*`, ]+?)(?: \([^)]*\))?: *(.*)", line.strip())
            if match and indent == inner:
                entries |= {name.strip(" *`"): (number, match[2]) for name in match[1].split(",")}
    return entries


def _opens_with(words: re.Pattern[str], text: str) -> str | None:
    """Return the word that a text opens with if it is among the given ones; quotes and brackets do not count."""
    match = words.match(text.lstrip(" \n`(*\"'"))
    return match[0] if match else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
