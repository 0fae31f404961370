"""The root of all errors that this project raises on purpose."""

from __future__ import annotations


class MrqmError(Exception):
    """An error that this project raises on purpose."""


class UserError(MrqmError, ValueError):
    """An error that its reader can put right: the message names the file or key, the value and the remedy.

    The command line prints the message without a traceback and exits with 2.
    """
