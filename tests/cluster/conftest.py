"""A cluster of this machine as `mrqm cluster up` starts it, and a submitter that shares no folder with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from ..pages import ROOT
from .folders import Place, environment


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The folder of a running cluster, to which its jobs' relative paths belong."""
    folder = tmp_path_factory.mktemp("cluster")
    place = Place(folder, environment(folder))
    try:
        started = place.run("mrqm", "cluster", "up", "--num-cpus", "2")
        assert started.returncode == 0, started.stderr
        yield place
    finally:
        place.run("mrqm", "cluster", "down")


@pytest.fixture(scope="module")
def submitter(cluster: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the project elsewhere, with the cluster's address and token."""
    folder = tmp_path_factory.mktemp("submitter")
    for name in ("mrqm", "pipelines", "tune", "cluster", "configs", ".gitignore"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets", "state"))
        else:
            shutil.copy(source, folder)
    state = json.loads((cluster.folder / ".cluster" / "cluster.json").read_text())
    known = {"RAY_ADDRESS": state["dashboard"], "RAY_AUTH_TOKEN_PATH": f"{cluster.folder}/.cluster/auth_token"}
    return Place(folder, environment(folder) | known | {"RAY_AUTH_MODE": "token"})
