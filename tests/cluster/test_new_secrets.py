"""New secrets: only their owner's, different each time, and what the cluster's files mount."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from cluster.new_secrets import write_secrets

COMPOSE = Path(__file__).parents[2] / "cluster" / "compose.yaml"


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    for path in write_secrets(tmp_path / "new"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_no_two_clusters_share_one(tmp_path: Path) -> None:
    pairs = zip(write_secrets(tmp_path / "one"), write_secrets(tmp_path / "two"), strict=True)
    assert all(one.read_text() != two.read_text() for one, two in pairs)


def test_secrets_in_use_are_never_replaced(tmp_path: Path) -> None:
    before = [path.read_text() for path in write_secrets(tmp_path / "new")]
    with pytest.raises(FileExistsError):
        write_secrets(tmp_path / "new")
    assert [path.read_text() for path in sorted((tmp_path / "new").iterdir())] == before


def test_they_are_what_compose_mounts(tmp_path: Path) -> None:
    mounted = {Path(secret["file"]).name for secret in yaml.safe_load(COMPOSE.read_text())["secrets"].values()}
    assert {path.name for path in write_secrets(tmp_path / "new")} == mounted


def test_mlflows_clients_have_the_password_that_its_server_is_given(tmp_path: Path) -> None:
    write_secrets(tmp_path / "new")
    client, server = ConfigParser(), ConfigParser()
    client.read(tmp_path / "new" / "mlflow_credentials")
    server.read(tmp_path / "new" / "mlflow_auth.ini")
    assert client["mlflow"]["mlflow_tracking_username"] == server["mlflow"]["admin_username"]
    assert client["mlflow"]["mlflow_tracking_password"] == server["mlflow"]["admin_password"]
