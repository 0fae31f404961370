"""A package has the files that Ray would pack, and one that is too large is refused by name."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from cluster.errors import ClusterError
from cluster.jobs.package import LIMIT, pack

TREE = {
    ".gitignore": "*.log\n/data/\nbuild/\n!keep.log\n",
    ".rayignore": "/notes.txt\n",
    ".git/config": "",
    ".venv/lib/module.py": "",
    "keep.log": "1",
    "gone.log": "1",
    "notes.txt": "1",
    "data/image.png": "1",
    "code/data/table.csv": "1",
    "code/__pycache__/module.pyc": "1",
    "code/build/lib.so": "1",
    "code/.gitignore": "secret*\n/local.py\n",
    "code/local.py": "1",
    "code/secret.txt": "1",
    "code/deep/local.py": "1",
    "code/deep/secrets/file": "1",
}


def write(root: Path, tree: dict[str, str]) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_it_is_what_ray_packs(tmp_path: Path) -> None:
    root = write(tmp_path / "work", TREE)
    create_package(str(root), tmp_path / "ray.zip", include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with ZipFile(tmp_path / "ray.zip") as archive:
        expected = {name for name in archive.namelist() if not name.endswith("/")}
    assert set(pack(root).files) == expected
    assert "code/deep/local.py" in expected
    assert not expected & {"gone.log", "notes.txt", "data/image.png", "code/secret.txt"}


def test_secrets_of_clusters_stay_even_where_nothing_is_ignored(tmp_path: Path) -> None:
    secrets = {".cluster/auth_token": "", "cluster/secrets/ray_token": "", "cluster/state/postgres/data": ""}
    others = {"a.py": "", "cluster/submit.py": ""}
    assert pack(write(tmp_path, others | secrets)).files.keys() == others.keys()


def test_links_in_circles_end_and_broken_ones_stay(tmp_path: Path) -> None:
    root = write(tmp_path, {"a/b.py": ""})
    (root / "a" / "up").symlink_to(root)
    (root / "broken").symlink_to(root / "nothing")
    assert set(pack(root).files) == {"a/b.py"}


def test_too_much_is_refused_with_what_takes_most(tmp_path: Path) -> None:
    root = write(tmp_path, {"code/main.py": "1"})
    for name in ("models/old/weights.bin", "flight/raw/1.png", "flight/raw/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("wb") as file:
            file.truncate(LIMIT // 2)  # sparse: takes no room here
    package = pack(root)
    with pytest.raises(ClusterError, match=r"4 files, 157\.3 MB .* Ray accepts 104\.9 MB") as refused:
        package.require_small()
    assert package.largest()[:2] == [("flight/raw/", LIMIT), ("models/old/weights.bin", LIMIT // 2)]
    assert "flight/raw/" in str(refused.value)
    assert ".rayignore" in str(refused.value)


def test_the_same_files_are_the_same_package(tmp_path: Path) -> None:
    root = write(tmp_path / "work", {"a.py": "1", "run.sh": "echo"})
    (root / "run.sh").chmod(0o755)
    pack(root).write_zip(tmp_path / "first.zip")
    (root / "a.py").touch()
    pack(root).write_zip(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with ZipFile(tmp_path / "first.zip") as archive:
        assert archive.read("a.py") == b"1"
        assert archive.getinfo("run.sh").external_attr >> 16 == 0o755
