"""The check of docstrings: each rule refuses what breaks it and accepts what keeps it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from tools.check_docstrings import check_source, main


def function(docstring: str, signature: str = "make(size: int, name: str) -> str", body: str = "return name") -> str:
    """Source of a module with one function."""
    text = indent(f'"""{dedent(docstring).strip()}\n"""\n{body}', "    ")
    return f"def {signature}:\n{text}\n"


WHOLE = """
    Make a thing.

    Args:
        size: side in px.
        name: name of the thing.

    Returns:
        The thing.
    """


@pytest.mark.parametrize("word", ["What", "Whether", "How", "Which", "Where", "Why", "Who", "When"])
@pytest.mark.parametrize("source", ['"""{} it is."""', 'class A:\n    """{} it is."""', 'A = 1\n"""{} it is."""'])
def test_a_docstring_that_opens_with_a_question_word_is_refused(source: str, word: str) -> None:
    assert [message for _, message in check_source(source.format(word))] == [
        f"docstring opens with {word!r}; open it with an imperative or a noun phrase"
    ]


@pytest.mark.parametrize("opening", ["Whatever it is.", "Howitzers.", "(N, 4) boxes.", "Make it."])
def test_a_word_that_only_begins_like_a_question_word_is_accepted(opening: str) -> None:
    assert check_source(f'"""{opening}"""') == []


@pytest.mark.parametrize(
    "entry", ["of the run", "if it is there", "whether to go on", "to predict with", "called once"]
)
@pytest.mark.parametrize("section", ["Args", "Attributes"])
def test_an_entry_that_is_no_noun_phrase_is_refused(section: str, entry: str) -> None:
    source = (
        f'class A:\n    """A thing.\n\n    {section}:\n        size: side in px.\n        name: {entry}.\n    """\n'
    )
    [(line, message)] = check_source(source)
    assert (line, message) == (
        6,
        f"{section} entry 'name' opens with {entry.split()[0]!r}; open it with a noun phrase",
    )


def test_continuation_lines_and_other_sections_are_no_entries() -> None:
    source = function(
        WHOLE.replace("side in px.", "side in px,\n            of: the thing.").replace("The thing", "Of it")
    )
    assert check_source(source) == []


def test_a_complete_docstring_is_accepted() -> None:
    assert check_source(function(WHOLE)) == []


@pytest.mark.parametrize(
    ("left_out", "fault"),
    [
        ("        name: name of the thing.\n", "make: Args lacks name"),
        ("    Returns:\n        The thing.\n", "make: Returns is missing"),
    ],
)
def test_a_part_that_is_left_out_is_named(left_out: str, fault: str) -> None:
    assert check_source(function(WHOLE.replace(left_out, ""))) == [(1, fault)]


def test_an_error_type_that_is_raised_has_to_be_stated_unless_it_is_built_in() -> None:
    source = function(WHOLE, body="if size:\n    raise DataError(name)\nraise ValueError(name)")
    assert check_source(source) == [(1, "make: Raises lacks DataError")]
    stated = WHOLE + "\n    Raises:\n        DataError: there is none.\n"
    assert check_source(function(stated, body="raise DataError(name)")) == []


@pytest.mark.parametrize(
    "source",
    [
        function("Make a thing.", "make(size: int) -> str"),
        function("Make a thing.", "_make(size: int, name: str) -> str"),
        function("Make a thing.", "test_make(size: int, name: str) -> str"),
        "@override\n" + function("Make a thing."),
        "@app.command(cls=Command)\n" + function("Make a thing."),
        '@field_validator("size")\n' + function("Make a thing."),
        "class _A:\n" + indent(function("Make a thing."), "    "),
        function("Make a thing.", "make(self, size: int) -> str"),
    ],
)
def test_functions_that_are_documented_elsewhere_or_private_need_no_args(source: str) -> None:
    assert check_source(source) == []


def test_methods_of_public_classes_are_checked_and_starred_parameters_count() -> None:
    source = function("Make a thing.", "make(self, *sizes: int, **names: str) -> None", "pass")
    assert check_source(f"class A:\n{indent(source, '    ')}") == [(2, "make: Args lacks sizes, names")]


def test_faults_are_printed_with_their_place_and_set_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.py").write_text(function(WHOLE))
    assert main([str(tmp_path)]) == 0
    (tmp_path / "package").mkdir()
    bad = tmp_path / "package" / "bad.py"
    bad.write_text('"""What it is."""\n')
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"{bad}:1: docstring opens with 'What'; open it with an imperative or a noun phrase\n"
    )


def test_a_path_without_files_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage: python tools/check_docstrings.py" in capsys.readouterr().err
