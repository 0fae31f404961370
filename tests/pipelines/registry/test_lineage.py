import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config
from pipelines.registry.lineage import describe_lineage, describe_view
from pipelines.tracking.git import code_commit

from ..repository import git

TinyConfig = Callable[..., Config]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A committed package in a repository."""
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(tmp_path / "checkout", "init", "--quiet")
    git(package, "add", ".")
    git(package, "commit", "--quiet", "-m", "Begin")
    return package


def test_committed_code_is_named_by_its_commit_whatever_its_tags(package: Path) -> None:
    git(package, "tag", "v1")
    assert code_commit(package) == git(package, "rev-parse", "HEAD")


def test_changed_code_is_called_dirty(package: Path) -> None:
    (package / "__init__.py").write_text("x = 1\n")
    assert code_commit(package) == f"{git(package, 'rev-parse', 'HEAD')}-dirty"


def test_code_installed_inside_somebody_elses_checkout_has_no_commit(package: Path) -> None:
    installed = package.parent / ".venv" / "mrqm"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert code_commit(installed) is None


def test_code_outside_of_git_and_hosts_without_git_have_no_commit(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_commit(package) is None


def test_a_checkpoint_is_known_by_its_files(tiny_config: TinyConfig, make_model: Any, tmp_path: Path) -> None:
    config = tiny_config("data.classes=[a, b, c]")
    save_checkpoint(tmp_path, make_model(config).state_dict(), {}, config, {})
    tags = describe_lineage(tmp_path)
    for tag, file in {"checkpoint.sha256": "model.safetensors", "config.digest": "config.yaml"}.items():
        assert tags[tag] == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    assert tags["evaluation.view"] == "full"
    assert tags["mrqm.version"] == "0.1.0"


def test_the_view_tells_apart_what_is_cut_differently(tiny_config: TinyConfig) -> None:
    def view(*overrides: str) -> str:
        return describe_view(tiny_config(*overrides).data)

    tiles = "data.tile={size: 64, overlap: 16}"
    assert view() == view("data.scale=2") == "full"
    assert view(tiles).startswith("tiles size=64 overlap=16 ")
    assert view(tiles) == view(tiles, "data.tile.empty_fraction=0.5")
    others = ("data.scale=2", "data.tile.overlap=8", "data.tile.min_area_ratio=0.5", "data.tile.blackout_ignored=true")
    assert len({view(tiles), *(view(tiles, other) for other in others)}) == 5
