"""The variables of a job: a server's address, what was asked for, nothing secret."""

from __future__ import annotations

import pytest

from cluster.errors import ClusterError
from cluster.jobs.job_env import make_job_env
from mrqm.redaction import redact


def test_a_server_that_others_reach_is_handed_over() -> None:
    assert make_job_env([], {"MLFLOW_TRACKING_URI": "https://mlflow.example.com", "HOME": "/root"}, redact) == (
        {"MLFLOW_TRACKING_URI": "https://mlflow.example.com"},
        [],
    )


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "http://127.0.0.1:5000", "http://localhost:5000", "mlruns"])
def test_a_store_of_this_machine_is_not(uri: str) -> None:
    variables, notes = make_job_env([], {"MLFLOW_TRACKING_URI": uri}, redact)
    assert variables == {}
    assert uri in notes[0]


def test_what_is_wanted_is_handed_over() -> None:
    variables, _ = make_job_env(["NCCL_DEBUG=INFO", "AWS_REGION"], {"AWS_REGION": "eu-central-1"}, redact)
    assert variables == {"NCCL_DEBUG": "INFO", "AWS_REGION": "eu-central-1"}
    with pytest.raises(ClusterError, match="--env AWS_REGION: is not set here"):
        make_job_env(["AWS_REGION"], {}, redact)


@pytest.mark.parametrize(
    ("wanted", "environ"),
    [
        (["AWS_SECRET_ACCESS_KEY=hunter2"], {}),
        (["HF_TOKEN"], {"HF_TOKEN": "hunter2"}),
        (["STORE=s3://me:hunter2@host/bucket"], {}),
        (["STORE=https://store/bucket?sig=hunter2"], {}),
        ([], {"MLFLOW_TRACKING_URI": "https://me:hunter2@mlflow.example.com"}),
    ],
)
def test_secrets_are_refused_and_not_repeated(wanted: list[str], environ: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match="contains a secret, and Ray shows") as refused:
        make_job_env(wanted, environ, redact)
    assert "hunter2" not in str(refused.value)
