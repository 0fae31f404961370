"""The secrets of a new cluster, in files that only their owner can read: `python -m cluster.new_secrets`.

| file | |
|---|---|
| `ray_token` | Ray's token, which lets its holder run code on the cluster |
| `mlflow_credentials` | credentials of MLflow's clients, for `~/.mlflow/credentials` |
| `mlflow_auth.ini`, `mlflow_session_key` | settings and session key of the MLflow server |
| `postgres_password`, `pgpass` | the database's password, alone and in libpq's format |
| `s3.json`, `s3_credentials` | the S3 server's account, in its own format and in that of its clients |
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

USER = "mlflow"
ADMIN = "admin"


def write_secrets(folder: Path) -> list[Path]:
    """Write new secrets into a new folder.

    Raises:
        FileExistsError: the folder exists: its secrets may be in use.
    """
    folder.mkdir(parents=True, mode=0o700)
    for name, content in _make_contents().items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(content)
    return sorted(folder.iterdir())


def _make_contents() -> dict[str, str]:
    admin, database, key = secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_hex(20)
    account = {
        "name": USER,
        "credentials": [{"accessKey": USER, "secretKey": key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    return {
        "ray_token": secrets.token_hex(32),
        "mlflow_credentials": f"[mlflow]\nmlflow_tracking_username = {ADMIN}\nmlflow_tracking_password = {admin}\n",
        "mlflow_auth.ini": (
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = postgresql+psycopg2://{USER}@postgres/mlflow\n"
            f"admin_username = {ADMIN}\nadmin_password = {admin}\n"
        ),
        "mlflow_session_key": secrets.token_hex(32),
        "postgres_password": database,
        "pgpass": f"*:*:*:{USER}:{database}\n",
        "s3.json": json.dumps({"identities": [account]}),
        "s3_credentials": f"[default]\naws_access_key_id = {USER}\naws_secret_access_key = {key}\n",
    }


def main() -> None:
    """Write new secrets into the folder of the first argument, else `cluster/secrets`; refuse an existing folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "cluster/secrets")
    try:
        written = write_secrets(folder)
    except FileExistsError:
        sys.exit(f"error: {folder} exists; remove it if no cluster uses its secrets, or name another folder")
    print(f"{folder}: {', '.join(path.name for path in written)}")


if __name__ == "__main__":
    main()
