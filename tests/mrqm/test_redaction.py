"""Redaction of secrets: replaced parts of texts, and unchanged ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mrqm.config import ConfigError, make_config
from mrqm.redaction import holds_secret, redact

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:hunter2@host:5432/db", "postgresql://u:***@host:5432/db"),
        ("https://u:hunter@2@host", "https://u:***@host"),
        ("postgresql://u:hun/ter2@host/db", "postgresql://u:***@host/db"),
        ("http://hunter2@host:5000", "http://***@host:5000"),
        ("s3://key:hun/ter+2=@bucket/x?region=eu", "s3://key:***@bucket/x?region=eu"),
        ("s3://bucket/x?session_token=hunter2&region=eu", "s3://bucket/x?session_token=***&region=eu"),
        ("https://h/x?sv=1&sig=hunter2&se=2", "https://h/x?sv=1&sig=***&se=2"),
        ("s3://b/k?X-Amz-Signature=hunter2&X-Amz-Date=3", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=3"),
        ("mysql+pymysql://h/db?user=a&password=hunter2", "mysql+pymysql://h/db?user=a&password=***"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Da%3BPWD%3Dhunter2", "mssql+pyodbc:///?odbc_connect=***"),
        ("s3://b?endpoint_override=http%3A%2F%2Fu%3Ahunter2%40h", "s3://b?endpoint_override=***"),
        ("zip://a.zip::https://u:hunter2@host/b", "zip://a.zip::https://u:***@host/b"),
        ("tracking.uri=http://me:hunter2@host, then", "tracking.uri=http://me:***@host, then"),
        ("uri: 'http://me:hun'ter2@host'", "uri: 'http://me:***@host'"),
        ("uri: 's3://b/x?token=hun'ter2'", "uri: 's3://b/x?token=***'"),
    ],
)
def test_secrets_of_uris_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert holds_secret(text)
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/path",
        "sqlite:///a@b.db",
        "sqlite:////home/me@work/x:y@z/mlflow.db",
        "http://127.0.0.1:5000/#/runs/ab@cd",
        "http://host:5000?page=2&author=me",
        "postgresql://me@host/db?sslmode=require&sslkey=/etc/key.pem",
        "abfs://container@account.dfs.core.windows.net/runs",
        "s3://bucket/day:1@noon/x",
        "me@example.com: password=later",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(
    scheme=st.sampled_from(["http", "https", "s3", "gs", "postgresql", "mysql+pymysql", "sftp", "hdfs"]),
    user=st.text("abcXYZ019-_.%", max_size=8),
    password=st.text("abc019-_.~!$&'()*+,;=%:@/?#", min_size=1, max_size=12),
    around=st.sampled_from(["{}", "{} is away", 'say "{}"', "({})", "a={} b", "'{}'"]),
)
@example(scheme="http", user="", password=":0#", around="{}")  # its first part looks like a port
@example(scheme="s3", user="me", password="a://b", around="{}")
def test_no_password_passes_wherever_it_stands(scheme: str, user: str, password: str, around: str) -> None:
    secret = f"<{password}>".replace("<", "x1Q").replace(">", "Q1x")
    text = around.format(f"{scheme}://{user}:{secret}@host/path")
    assert secret not in redact(text)
    assert redact(redact(text)) == redact(text)


@given(
    name=st.sampled_from(
        ["password", "PASSWORD", "pwd", "access_token", "sig", "secret_key", "X-Amz-Security-Token", "api-key", "auth"]
    ),
    value=st.text("abcXYZ019-_.~%+/='", min_size=1, max_size=12),
    before=st.sampled_from(["?", "?region=eu&", "/deep/path?a=b;"]),
)
def test_no_secret_parameter_passes(name: str, value: str, before: str) -> None:
    secret = f"Q{value}Q"
    assert secret not in redact(f"s3://bucket{before}{name}={secret}&region=us")


@given(st.text())
def test_json_stays_json(text: str) -> None:
    document = {"a": text, "b": f"http://u:{text}@h/?token={text}"}
    assert json.loads(redact(json.dumps(document))).keys() == document.keys()


@pytest.mark.parametrize(
    "key",
    [
        "tracking.uri",
        "output_dir",
        "data.root",
        "model.backbone.weights",
        "model.init",
        "train.resume",
        "tracking.experiment",
    ],
)
@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{SECRET}@host/x",
        f"'http://me:x\"<`\\{SECRET}@host/x'",
        f"s3://bucket/x?region=eu&session_token={SECRET}",
    ],
)
def test_a_configuration_holds_no_secret(key: str, uri: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: .*holds a password or token.*environment") as refused:
        make_config({}, [f"{key}={uri}"])
    assert SECRET not in str(refused.value)


def test_a_refused_value_of_the_wrong_kind_is_not_repeated() -> None:
    for override in (f"tracking.uri=[http://me:{SECRET}@host]", f"http://me:{SECRET}@host", f"a=[http://u:{SECRET}@h"):
        with pytest.raises(ConfigError) as refused:
            make_config({}, [override])
        assert SECRET not in str(refused.value)


def test_logs_and_tracebacks_of_any_library_pass_the_gate() -> None:
    program = f"""
import logging
from mrqm.redaction import guard_output
guard_output()
logging.getLogger("somebody").warning("%s is away", "http://me:{SECRET}@host")
raise RuntimeError("no answer from http://me:{SECRET}@host")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "http://me:***@host is away" in ended.stderr
    assert "RuntimeError: no answer from http://me:***@host" in ended.stderr
    assert "hunter2" not in ended.stderr.replace(program, "")
