"""The commands of the documents of clusters."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "clusters").glob("*.md"))


def blocks(page: Path) -> list[list[list[str]]]:
    """The words of every command in each of a page's code blocks, comments left out."""
    found = re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return [_commands(block) for block in found]


def commands(page: Path) -> list[list[str]]:
    """The words of every command in a page's code blocks."""
    return [words for block in blocks(page) for words in block]


def _commands(block: str) -> list[list[str]]:
    lines = block.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.removeprefix("$ ").split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]
