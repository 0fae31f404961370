"""Make reference/commands.md from the command line's own help."""

from __future__ import annotations

import re
import subprocess
import sys

INTRO = """
`mrqm COMMAND --help` shows the same in the terminal. Exit codes: 0 success, 1 a check that failed or images that could
not be read, 2 a mistake in command, configuration or data, 130 a stop by Ctrl-C or SIGTERM.
"""


def render() -> str:
    """Render every command with its arguments and options.

    Returns:
        The Markdown text of the page.
    """
    command = [sys.executable, "-m", "typer", "mrqm.__main__", "utils", "docs", "--name", "mrqm", "--title", "Commands"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n", "", text)  # cut off after some words; headings list them
    return text.replace("# Commands\n", f"# Commands\n{INTRO}", 1)
