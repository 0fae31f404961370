"""Against a real server that dies and comes back, and real databases."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.tracking.event_log import Artifact, DatasetUsed, Journal, Metrics, Status, Tags
from pipelines.tracking.uploader import Uploader

from ..servers.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """Client of an existing database, since creating one takes seconds."""
    client = MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
    client.search_experiments()
    return client


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def note_losses(journal: Journal, *steps: int) -> None:
    for step in steps:
        journal.add(Metrics(time=1000 + step, step=step, values={"loss": 1 / step}))


def losses(client: MlflowClient, run_id: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]


def make_run(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def test_a_server_that_is_away_for_a_while_gets_everything_in_order(
    mortal_server: MlflowServer, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(mortal_server.uri)
    run_id = make_run(client)
    delivery = Uploader(journal, client, run_id)
    note_losses(journal, 1, 2)
    assert delivery.flush(60) == 0
    mortal_server.stop()
    (journal.path.parent / "a.png").write_bytes(b"picture")
    note_losses(journal, 3, 4)
    journal.add(Artifact(file="a.png", folder="pictures"))
    note_losses(journal, 5)
    journal.add(Status(time=9000, status="FINISHED"))
    assert delivery.pending == 5  # the training waited for nobody
    assert delivery.flush(1) == 5
    assert re.search("MLflow does not answer .(nothing listens there|the connection broke)", caplog.text)
    mortal_server.start()
    assert delivery.close(60) == 0
    assert "MLflow answers again" in caplog.text
    assert losses(client, run_id) == [(step, 1 / step) for step in range(1, 6)]
    assert [file.path for file in client.list_artifacts(run_id, "pictures")] == ["pictures/a.png"]
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == ("FINISHED", 9000)


def test_a_store_that_refuses_is_not_waited_for(
    client: MlflowClient, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """Days of patience are for one that may take it; a run that is restored meanwhile gets everything."""
    run_id = make_run(client)
    delivery = Uploader(journal, client, run_id)
    client.delete_run(run_id)
    note_losses(journal, 1, 2)
    assert delivery.flush(1e5) == 2
    assert "MLflow does not accept reports" in caplog.text
    client.restore_run(run_id)
    assert delivery.close(1e5) == 0
    assert losses(client, run_id) == [(1, 1.0), (2, 0.5)]


def test_what_a_killed_process_could_not_send_is_sent_by_the_next(client: MlflowClient, journal: Journal) -> None:
    run_id = make_run(client)
    note_losses(journal, 1, 2)
    assert Uploader(Journal(journal.path.parent), client, run_id).close(60) == 0
    note_losses(journal, 3)
    assert losses(client, run_id) == [(1, 1.0), (2, 0.5)]
    assert Uploader(Journal(journal.path.parent), client, run_id).close(60) == 0
    assert losses(client, run_id) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_what_was_sent_is_not_sent_again(client: MlflowClient, journal: Journal) -> None:
    run_id = make_run(client)
    journal.add(Tags(values={"word": "first"}))
    assert Uploader(journal, client, run_id).close(60) == 0
    client.set_tag(run_id, "word", "second")
    assert Uploader(Journal(journal.path.parent), client, run_id).close(60) == 0
    assert client.get_run(run_id).data.tags["word"] == "second"


def test_a_kill_between_sending_and_remembering_doubles_nothing(client: MlflowClient, journal: Journal) -> None:
    run_id = make_run(client)
    note_losses(journal, 1, 2)
    assert Uploader(journal, client, run_id).close(60) == 0
    journal.path.with_suffix(".sent").unlink()
    note_losses(journal, 3)
    assert Uploader(journal, client, run_id).close(60) == 0
    assert losses(client, run_id) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_run_that_moves_to_another_store_arrives_there_whole(client: MlflowClient, journal: Journal) -> None:
    note_losses(journal, 1, 2)
    assert Uploader(journal, client, make_run(client)).close(60) == 0
    other = make_run(client)
    note_losses(journal, 3)
    assert Uploader(journal, client, other).close(60) == 0
    assert [step for step, _ in losses(client, other)] == [1, 2, 3]


def test_thousands_of_metrics_arrive_together(client: MlflowClient, journal: Journal) -> None:
    run_id = make_run(client)
    journal.add(Metrics(time=1, step=1, values={f"AP/{index}": index for index in range(1203)}))
    note_losses(journal, *range(1, 1500))
    assert Uploader(journal, client, run_id).close(60) == 0
    assert len(client.get_run(run_id).data.metrics) == 1204
    assert [step for step, _ in losses(client, run_id)] == list(range(1, 1500))


def test_a_file_that_is_gone_holds_up_nothing(
    client: MlflowClient, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = make_run(client)
    journal.add(Artifact(file="gone.png"))
    note_losses(journal, 1)
    with caplog.at_level(logging.WARNING):
        assert Uploader(journal, client, run_id).close(60) == 0
    assert "gone.png: was removed before it could be sent" in caplog.text
    assert losses(client, run_id) == [(1, 1.0)]


def test_data_is_an_input_of_the_run(client: MlflowClient, journal: Journal) -> None:
    run_id = make_run(client)
    journal.add(
        DatasetUsed(
            context="validation", name="demo/val", digest="ab12" * 16, source="/data/demo/val", counts={"objects": 7}
        )
    )
    assert Uploader(journal, client, run_id).close(60) == 0
    (used,) = client.get_run(run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("demo/val", "ab12" * 9)
    assert '"objects": 7' in used.dataset.profile
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "validation")]
