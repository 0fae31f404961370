"""This machine's own addresses: no proxy is asked for them."""

from __future__ import annotations

import os

HOSTS = ("localhost", "127.0.0.1", "::1")
VARIABLES = ("no_proxy", "NO_PROXY")


def bypass_proxies() -> None:
    """Have this process, and what it starts, reach loopback directly; with HTTP_PROXY set they would ask the proxy.

    Both spellings are set: programs read one or the other, and some of them the first that is not empty.
    """
    listed = [host for name in VARIABLES for host in os.environ.get(name, "").split(",") if host]
    for name in VARIABLES:
        os.environ[name] = ",".join(dict.fromkeys((*listed, *HOSTS)))
