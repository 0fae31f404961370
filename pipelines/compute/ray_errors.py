"""Explanations of Ray's errors at its start or at the connection to a cluster, each in a sentence with its remedy."""

from __future__ import annotations

import os
import re
import tempfile

from ray.exceptions import AuthenticationError

from mrqm.errors import MrqmError

TOKEN = "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH=FILE with the cluster's token"


class SilentAddressError(MrqmError, OSError):
    """An address at which no server listens."""


def explain_start(address: str | None, error: Exception) -> str:
    """Explain why a session did not begin, and how to correct it.

    Args:
        address: address of the cluster; None for a session of its own on this machine.
        error: error of `ray.init`, or of the attempt to reach the address.

    Returns:
        The explanation, for the user.
    """
    if address is None:
        return _explain_own(error)
    place, found = f"RAY_ADDRESS={address}", str(error)
    if isinstance(error, AuthenticationError):
        return f"{place}: the cluster requires a token, and none was found; {TOKEN}"
    if "Version mismatch" in found:
        versions = re.findall(r"(Ray|Python): (\S+)", found)
        there, here = (", ".join(" ".join(version) for version in part) for part in (versions[:2], versions[2:4]))
        return f"{place}: the cluster runs {there}, and this process {here}; install the same versions on both sides"
    if isinstance(error, SilentAddressError) or not re.search(r":\d+$", address):
        return (
            f"{place}: no Ray cluster answers there; start it, or unset RAY_ADDRESS to train on this machine alone "
            f"({found})"
        )
    return (
        f"{place}: the server there refuses this process ({_first_line(found)}); if the cluster requires a token: "
        f"{TOKEN}; else correct the address, or unset RAY_ADDRESS to train on this machine alone"
    )


def _explain_own(error: Exception) -> str:
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    place = f"{name}={os.environ.get(name, tempfile.gettempdir())}"
    if "AF_UNIX path length" in str(error):
        return f"{place}: too long, as the paths of Ray's sockets below it may have 107 bytes; export RAY_TMPDIR=/tmp"
    if isinstance(error, OSError):
        return f"{place}: Ray cannot write its files there ({error}); export RAY_TMPDIR=FOLDER with a writable folder"
    return f"Ray does not start on this machine: {_first_line(str(error))}; its logs are below {place}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
