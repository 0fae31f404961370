"""Addresses of this machine, in an environment that names a proxy for all the others."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPResponse

import pytest
import requests
from pytest_httpserver import HTTPServer

from pipelines.process.loopback import HOSTS, bypass_proxies


@pytest.fixture(autouse=True)
def behind_a_proxy_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")


def open_anew(url: str) -> HTTPResponse:
    """Open by what the environment says now: `urlopen` goes on with the proxies of its first call in a process."""
    response: HTTPResponse = urllib.request.build_opener().open(url, timeout=10)
    return response


def test_loopback_needs_no_proxy(website: HTTPServer) -> None:
    with pytest.raises(urllib.error.URLError):
        open_anew(f"http://127.0.0.1:{website.port}")
    bypass_proxies()
    for host in ("127.0.0.1", "localhost"):
        assert open_anew(f"http://{host}:{website.port}").status == 200
        assert requests.get(f"http://{host}:{website.port}", timeout=10).status_code == 200


def test_other_addresses_go_through_the_proxy() -> None:
    bypass_proxies()
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("http://192.0.2.1", timeout=10)


def test_hosts_that_were_listed_stay_and_none_is_listed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "store.example,localhost")
    monkeypatch.setenv("NO_PROXY", ".internal")
    bypass_proxies()
    bypass_proxies()
    expected = ["store.example", "localhost", ".internal", *HOSTS[1:]]
    assert os.environ["no_proxy"].split(",") == os.environ["NO_PROXY"].split(",") == expected
