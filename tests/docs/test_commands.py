"""README.md and docs/ as a reader uses them: every page from top to bottom, each command and each piece of code."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mrqm.__main__ import app
from tune.space.schema import make_space

from ..pages import GENERATED, PAGES, ROOT, SHELLS, Block, read_blocks, read_inline_code
from ..pipelines.repository import git
from .execution import execute

WITH_CODE = [page for page in PAGES if read_blocks(page)]


@pytest.fixture
def folder(named_files: Path, store: str, large_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's checkout, with data, images and runs of the names in the documents."""
    folder = tmp_path / "reader"
    shutil.copytree(named_files, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "checkout")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(
        "pipelines.registry.promotion.try_model", lambda *_: None
    )  # a process of seconds, tested elsewhere
    return folder


@pytest.mark.ray
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_works_from_top_to_bottom(page: Path, folder: Path) -> None:
    for block in read_blocks(page):
        try:
            run_block(block, folder)
        except BaseException as error:
            error.add_note(f"in the block at {block}")
            raise
    assert git(folder, "status", "--porcelain") == "", "what its commands write is not ignored by git"


def run_block(block: Block, folder: Path) -> None:
    if block.language in SHELLS:
        for words in block.commands():
            execute(words, folder)
    elif block.language == "python":
        run_python(block.text)
    elif block.language == "yaml":
        read_space(block)
    elif block.language == "mermaid":
        pass  # test_a_diagram_names_modules_that_exist
    else:
        assert block.language == "", f"{block.language}: nobody knows how to execute it"
        assert not re.search(r"^(\$ |mrqm |make |python )", block.text, flags=re.MULTILINE)


def run_python(text: str) -> None:
    """Run code; of code that asks a server or an exported file, which its own tests run, import what it imports."""
    if "http://" not in text and "onnxruntime" not in text:
        exec(compile(text, "documents", "exec"), {})
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert all(hasattr(importlib.import_module(str(node.module)), alias.name) for alias in node.names)


def read_space(block: Block) -> None:
    """Read a space, or a part of one that is added to the page's first."""
    whole = next(other for other in read_blocks(block.page) if other.language == "yaml")
    make_space(yaml.safe_load(whole.text) | yaml.safe_load(block.text))


@pytest.mark.parametrize(
    "command",
    [
        "coffee page", "mrqm coffee", "mrqm registry coffee mrqm", "mrqm train --coffee configs/demo.yaml",
        "mrqm submit -- coffee", "mrqm submit -- train -c configs/demo.yaml optim.coffee=3", "mrqm jobs coffee",
        "make coffee", "pip install mrqm[coffee]", "python benchmarks/tiles.py --coffee",
        "docker compose -f cluster/coffee.yaml up",
    ],
)  # fmt: skip
def test_a_command_that_does_not_work_is_noticed(command: str) -> None:
    with pytest.raises(Exception, match="coffee"):
        execute(command.split(), ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_hides_outside_of_the_blocks(page: Path) -> None:
    text = page.read_text()
    blocks = "".join(block.text for block in read_blocks(page))
    indented = re.findall(r"^(?: {4}|\t)(?:\$ )?(?:mrqm|make|python|ray|docker|kubectl|mlflow) .*", text, re.MULTILINE)
    assert [line for line in indented if line not in blocks] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    missing = {link for link in links if "://" not in link and not (page.parent / link).exists()}
    assert {link for link in missing if (page.parent / link).resolve() not in GENERATED} == set()


def test_pages_that_code_and_messages_name_exist() -> None:
    tracked = git(ROOT, "ls-files", "*.py", "*.yaml", "*.md", "Makefile").splitlines()
    texts = [(ROOT / name).read_text() for name in tracked if not name.startswith("tests/")]
    named = {page for text in texts for page in re.findall(r"(?<![\w/.])docs/[\w/-]+\.(?:md|py|jpg)", text)}
    assert len(named) > 10
    assert {page for page in named if not (ROOT / page).is_file()} == set()


def test_a_diagram_names_modules_that_exist() -> None:
    diagrams = [block for page in PAGES for block in read_blocks(page) if block.language == "mermaid"]
    named = {name for block in diagrams for name in re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", block.text)}
    assert len(named) > 20
    assert {name for name in named if not is_in_the_tree(name)} == set()


def is_in_the_tree(name: str) -> bool:
    """Tell if a dotted name, such as `data.images.decoding`, is a module, a function of one, or a file's name."""
    if name.endswith((".json", ".jsonl", ".yaml")):
        return True
    whole = name.replace(".", "/")
    places = [ROOT / layer / whole for layer in (".", "mrqm", "pipelines", "tune")]
    if any(place.is_dir() or place.with_suffix(".py").is_file() for place in places):
        return True
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_within_sentences_exist(page: Path) -> None:
    tracked = {str(Path(name).parts[0]) for name in git(ROOT, "ls-files").splitlines() if "/" in name}
    paths = [code for code in read_inline_code(page) if re.fullmatch(r"[\w./-]+/[\w./-]*", code)]
    made = ("cluster/secrets", "cluster/state")
    named = {path for path in paths if path.partition("/")[0] in tracked and not path.startswith(made)}
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_exist(page: Path) -> None:
    for code in read_inline_code(page):
        match code.split():
            case ["mrqm", name, *rest] if name.islower():
                find_command([name, *rest])
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), code
            case ["python", script, *_] if script.endswith(".py"):
                assert (ROOT / script).is_file(), code


def find_command(words: list[str]) -> None:
    """Follow the words of a command as far as they name commands, and look up its options."""
    command: Any = typer.main.get_command(app)
    while words and (names := getattr(command, "commands", None)):
        assert words[0] in names, f"mrqm has no {words[0]}"
        command, words = names[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.strip("[]").partition("=")[0] for word in words if word.strip("[").startswith("-")}
    assert options - {"--"} <= known | {"--help"}
