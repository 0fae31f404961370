"""The check of sizes: what is as long as allowed is accepted, one line more is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_sizes import FUNCTION_LINES, MODULE_LINES, check_source, main


def body(lines: int, indent: str = "    ") -> str:
    return f"{indent}pass\n" * lines


def command(parameters: int, lines: int, indent: str = "") -> str:
    """A command of typer with one parameter on each line."""
    arguments = "".join(f"{indent}    p{n}: Annotated[int, typer.Option()],\n" for n in range(parameters))
    return f"{indent}def command(\n{arguments}{indent}) -> None:\n{body(lines, indent + '    ')}"


@pytest.mark.parametrize("excess", [0, 1])
def test_a_module_may_have_the_allowed_lines_and_no_more(excess: int) -> None:
    expected = [(1, "the module has 251 lines, more than 250; split it by concept")] if excess else []
    assert check_source("pass\n" * (MODULE_LINES + excess)) == expected


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("docstring", ["", '    """Do it.\n\n    At length.\n    """\n'])
def test_a_function_may_have_the_allowed_lines_besides_its_docstring_and_no_more(keyword: str, docstring: str) -> None:
    def source(lines: int) -> str:
        return f"\n{keyword} make() -> None:\n{docstring}{body(lines - 1)}"

    assert check_source(source(FUNCTION_LINES)) == []
    assert check_source(source(FUNCTION_LINES + 1)) == [(2, "make has 41 lines, more than 40")]


def test_methods_and_functions_within_functions_are_measured() -> None:
    method = "class A:\n    def make(self) -> None:\n" + body(FUNCTION_LINES, " " * 8)
    assert check_source(method) == [(2, "make has 41 lines, more than 40")]
    inner = "def outer() -> None:\n    def inner() -> None:\n" + body(FUNCTION_LINES, " " * 8)
    assert [message.split()[0] for _, message in check_source(inner)] == ["outer", "inner"]


def test_the_signature_of_a_command_does_not_count_and_its_body_does() -> None:
    assert check_source(command(parameters=60, lines=FUNCTION_LINES)) == []
    assert check_source(command(parameters=60, lines=FUNCTION_LINES + 1)) == [(1, "command has 41 lines, more than 40")]


def test_a_function_that_makes_a_command_is_measured_without_it() -> None:
    made = command(parameters=60, lines=FUNCTION_LINES, indent="    ")
    assert check_source(f"def make() -> None:\n{made}{body(FUNCTION_LINES - 1)}") == []
    assert check_source(f"def make() -> None:\n{made}{body(FUNCTION_LINES)}") == [
        (1, "make has 41 lines, more than 40")
    ]


def test_what_is_too_long_is_printed_with_its_place_and_sets_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.py").write_text(body(1, ""))
    assert main([str(tmp_path)]) == 0
    long = tmp_path / "package" / "long.py"
    long.parent.mkdir()
    long.write_text(body(300, ""))
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{long}:1: the module has 300 lines, more than 250; split it by concept\n"


def test_a_path_without_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage: python tools/check_sizes.py" in capsys.readouterr().err
