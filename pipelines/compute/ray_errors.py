"""Reasons why Ray does not start here or let this process into a cluster, each in a sentence with its remedy."""

from __future__ import annotations

import os
import re
import tempfile

from ray.exceptions import AuthenticationError

from mrqm.errors import MrqmError

TOKEN = "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH=FILE with the cluster's token"


class SilentAddressError(MrqmError, OSError):
    """An address at which nothing listens."""


def explain_start(address: str | None, error: Exception) -> str:
    """Say why a session did not begin, and what to do about it.

    Args:
        address: of the cluster; None stands for a Ray of its own on this machine.
        error: raised by `ray.init`, or by the attempt to reach the address.
    """
    if address is None:
        return _explain_own(error)
    place, found = f"RAY_ADDRESS={address}", str(error)
    if isinstance(error, AuthenticationError):
        return f"{place}: the cluster asks for a token, and none is at hand; {TOKEN}"
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
        f"{place}: what listens there does not let this process in ({_first_line(found)}); if the cluster asks for a "
        f"token: {TOKEN}; else correct the address, or unset RAY_ADDRESS to train on this machine alone"
    )


def _explain_own(error: Exception) -> str:
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    place = f"{name}={os.environ.get(name, tempfile.gettempdir())}"
    if "AF_UNIX path length" in str(error):
        return f"{place}: too long, as the paths of Ray's sockets below it may have 107 bytes; export RAY_TMPDIR=/tmp"
    if isinstance(error, OSError):
        return f"{place}: Ray cannot keep its files there ({error}); export RAY_TMPDIR=FOLDER, one that is writable"
    return f"Ray does not start on this machine: {_first_line(str(error))}; its logs are below {place}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
