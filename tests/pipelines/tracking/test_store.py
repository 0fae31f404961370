"""Usable and unusable MLflow stores, and the message for each."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer

from mrqm.config import TrackingConfig, make_config
from pipelines.registry.client import open_registry
from pipelines.tracking.client import Client
from pipelines.tracking.errors import TrackingError, UnreachableError
from pipelines.tracking.store import find_experiment, first_contact, require_experiment, resolve_experiment, resolve_uri

from ...conftest import ANY_PATH
from ..registered import free_port
from ..servers.mlflow_server import MlflowServer


def contact(uri: str) -> None:
    with first_contact(uri):
        find_experiment(Client(uri), "mrqm", uri)


@pytest.fixture
def answering(httpserver: HTTPServer) -> Callable[[int], str]:
    """Function that makes a server answer everything with a status; returns its address."""

    def answer(status: int) -> str:
        httpserver.expect_request(ANY_PATH).respond_with_data("<html>Welcome</html>", status)
        return httpserver.url_for("").rstrip("/")

    return answer


def test_nothing_that_listens_is_unreachable_and_may_come_back() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=rf"MLflow at {uri} cannot be used: nothing listens there; start the"):
        contact(uri)


@pytest.mark.parametrize("status", [200, 404])
def test_a_server_of_something_else_is_named_so(answering: Callable[[int], str], status: int) -> None:
    with pytest.raises(TrackingError, match="the server there is no MLflow server; correct the address"):
        contact(answering(status))


@pytest.mark.parametrize("command", ["training", "registry"])
@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "it asks for a user and a password"), (403, "it permits this to nobody without credentials")],
)
def test_missing_credentials_are_asked_for_after_a_single_request(
    httpserver: HTTPServer,
    answering: Callable[[int], str],
    command: str,
    status: int,
    said: str,
    tiny_config: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal is no fault that passes: nothing is tried again."""
    uri = answering(status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    with pytest.raises(TrackingError, match=f"^MLflow at {uri} cannot be used: {said}; {remedy}$") as raised:
        if command == "training":
            require_experiment(tiny_config().tracking)
        with open_registry(tiny_config().tracking):
            pass
    assert not isinstance(raised.value, UnreachableError)
    assert len(httpserver.log) == 1


def test_an_account_without_the_right_is_told_whom_to_ask(
    answering: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    with pytest.raises(TrackingError, match="it does not permit this; ask its administrator for edit permission"):
        contact(answering(403))


def test_wrong_credentials_are_called_so(answering: Callable[[int], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "u")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p")
    with pytest.raises(TrackingError, match="does not accept these credentials"):
        contact(answering(401))


@pytest.mark.slow
def test_a_host_name_that_a_server_refuses_is_said_with_the_remedy(server: MlflowServer) -> None:
    name = socket.gethostname()
    try:
        if socket.gethostbyname(name) != "127.0.0.1":
            pytest.skip(f"{name} is not 127.0.0.1")
    except socket.gaierror:
        pytest.skip(f"{name} has no address")
    with pytest.raises(TrackingError, match="refuses this host name; start it with --allowed-hosts"):
        contact(server.uri.replace("127.0.0.1", name))


def test_a_server_that_breaks_connections_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def break_connections() -> None:
            while not ended.is_set():
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
                connection.close()

        breaking = threading.Thread(target=break_connections)
        breaking.start()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="the connection broke"):
            contact(uri)
        ended.set()
        socket.create_connection(listener.getsockname()).close()
        breaking.join()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(TrackingError, match="MLflow at gopher://x cannot be used: "):
        contact("gopher://x")


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database, but text that is long enough for a header" * 40)
    with pytest.raises(TrackingError, match="file is not a database"):
        contact(f"sqlite:///{tmp_path}/notes.db")


def test_a_servers_credentials_move_to_the_variables_that_mlflow_does_not_print(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@host:5000/mlflow")
    assert resolve_uri(TrackingConfig()) == "https://host:5000/mlflow"
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://host:5000/mlflow"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "p@ss")


def test_a_databases_password_stays_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://me:pass@host/db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert resolve_uri(TrackingConfig()) == uri


@pytest.fixture
def secure_website(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of a server with a self-signed certificate, and the certificate."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    _sign(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer("127.0.0.1", ssl_context=context) as server:
        server.expect_request(ANY_PATH).respond_with_data("<html>Welcome</html>")
        yield server.url_for("").rstrip("/"), certificate


def _sign(certificate: Path, key: Path) -> None:
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_certificate_that_nobody_trusts_is_asked_for(
    secure_website: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, certificate = secure_website
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH", raising=False)
    said = r"its certificate is not trusted \(self.signed certificate\); .* MLFLOW_TRACKING_SERVER_CERT_PATH=FILE\.pem"
    with pytest.raises(TrackingError, match=said):
        contact(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    with pytest.raises(TrackingError, match="the server there is no MLflow server"):
        contact(uri)


def test_an_address_without_a_scheme_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for uri in ("127.0.0.1:5000", "mlflow.example:80/team"):
        with pytest.raises(TrackingError, match=rf"^tracking.uri={uri}: .* write http://{uri}$"):
            resolve_uri(TrackingConfig(uri=uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    with pytest.raises(TrackingError, match=r"^MLFLOW_TRACKING_URI=localhost:5000: .* write http://localhost:5000$"):
        resolve_uri(TrackingConfig())


def test_the_environment_names_the_experiment_that_the_configuration_leaves_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert resolve_experiment(TrackingConfig()) == "mrqm"
    assert resolve_experiment(TrackingConfig(experiment="own")) == "own"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    assert resolve_experiment(TrackingConfig()) == "shared"
    assert resolve_experiment(TrackingConfig(experiment="shared")) == "shared"
    assert caplog.messages == []


@pytest.mark.parametrize("experiment", ["own", "mrqm"])
def test_an_experiment_that_the_configuration_names_wins_over_the_environment_and_that_is_told_once(
    experiment: str, tiny_config: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    config = tiny_config(f"tracking.experiment={experiment}")
    copies = [config, make_config(config.model_dump())]  # as a trial and a checkpoint have it
    assert [resolve_experiment(copy.tracking) for copy in copies] == [experiment] * 2
    assert caplog.messages == [
        f"MLFLOW_EXPERIMENT_NAME=shared is ignored: the configuration sets tracking.experiment={experiment}"
    ]


def test_a_kept_configuration_that_names_no_experiment_leaves_it_open(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    assert resolve_experiment(make_config(tiny_config().model_dump()).tracking) == "shared"
