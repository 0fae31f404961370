"""Loopback addresses, which are reached without a proxy."""

from __future__ import annotations

import os

HOSTS = ("localhost", "127.0.0.1", "::1")
VARIABLES = ("no_proxy", "NO_PROXY")


def bypass_proxies() -> None:
    """Let this process and its children reach loopback directly, also if HTTP_PROXY is set.

    Both spellings of the variable are set: programs read one or the other, and some of them the first that is not
    empty.
    """
    listed = [host for name in VARIABLES for host in os.environ.get(name, "").split(",") if host]
    for name in VARIABLES:
        os.environ[name] = ",".join(dict.fromkeys((*listed, *HOSTS)))
