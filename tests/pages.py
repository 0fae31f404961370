"""The code blocks of README.md and of the pages in docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = {ROOT / "docs" / "reference" / f"{name}.md" for name in ("commands", "configuration")}
"""Pages that building the site makes."""
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - GENERATED)]
CLUSTER_PAGES = [page for page in PAGES if page.parent.name == "clusters"]
SHELLS = ("bash", "console")
"""Languages of blocks that hold commands."""

Words = list[str]

_FENCED = re.compile(r"^```(\S*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_ASSIGNMENTS = re.compile(r"^(?:[A-Z_]+=(?:\$\([^)]*\)|\S+) +)*")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: its file.
        line: number of its first line of code, from 1.
        language: the word after the fence; empty if there is none.
        text: its lines.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_pipeline(self) -> bool:
        """True if a shell has to run it as a whole."""
        return self.language in SHELLS and " |" in self.text

    def commands(self) -> Iterator[Words]:
        """The words of every command, without comments and without variables that are set for it alone."""
        if self.language not in SHELLS or self.is_pipeline:
            return
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split(" && "):
                if words := shlex.split(_ASSIGNMENTS.sub("", part), comments=True):
                    yield words


def read_blocks(page: Path) -> list[Block]:
    """The fenced code blocks of a page, in order, without Sphinx's directives such as `{eval-rst}`."""
    text = page.read_text()
    fenced = [found for found in _FENCED.finditer(text) if not found[1].startswith("{")]
    return [Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in fenced]


def read_commands(page: Path) -> list[Words]:
    """The words of every command in a page's code blocks."""
    return [words for block in read_blocks(page) for words in block.commands()]


def read_inline_code(page: Path) -> list[str]:
    """The code spans of a page outside of its blocks, such as `mrqm plan`."""
    return re.findall(r"`([^`\n]+)`", _FENCED.sub("", page.read_text()))
