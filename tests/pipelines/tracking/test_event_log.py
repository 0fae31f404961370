"""The journal: written entries are read again, also after kills and full disks."""

import logging
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.tracking.event_log import Artifact, DatasetUsed, Entry, Journal, JournalError, Metrics, Status, Tags

ENTRIES: list[Entry] = [
    Status(time=1, status="RUNNING"),
    Metrics(time=2, step=5, values={"train/loss": 0.1 + 0.2}),
    Tags(values={"é": "1\n2"}),
    Artifact(file="pictures/epoch_0001.png", folder="pictures"),
    DatasetUsed(context="training", name="demo/train", digest="ab", source="data", counts={"images": 3}),
    Status(time=3, status="FINISHED"),
]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def entries(journal: Journal, position: int = 0) -> list[Entry]:
    return [entry for entry, _ in journal.read(position)]


def test_entries_are_read_in_order_from_any_position(journal: Journal) -> None:
    for entry in ENTRIES:
        journal.add(entry)
    assert entries(journal) == ENTRIES
    positions = [position for _, position in journal.read()]
    assert entries(journal, positions[2]) == ENTRIES[3:]
    assert positions[-1] == journal.size == journal.path.stat().st_size


def test_another_process_goes_on_after_half_a_line(journal: Journal) -> None:
    journal.add(ENTRIES[0])
    with journal.path.open("a") as file:
        file.write('{"kind": "metrics", "ti')
    again = Journal(journal.path.parent)
    again.add(ENTRIES[1])
    assert entries(again) == ENTRIES[:2]


def test_a_line_that_is_being_written_is_not_read(journal: Journal) -> None:
    journal.add(ENTRIES[0])
    with journal.path.open("a") as file:
        file.write('{"kind": "metrics", "ti')
    assert entries(journal) == ENTRIES[:1]


def test_a_restarted_training_reports_no_step_twice(journal: Journal) -> None:
    journal.add_metrics({"loss": 3.0}, 1)
    journal.add_metrics({"loss": 2.0}, 2)
    again = Journal(journal.path.parent)
    again.add_metrics({"loss": 2.0, "AP": 0.5}, 2)
    again.add_metrics({"loss": 1.0}, 3)
    reported = [(entry.step, entry.values) for entry in entries(again) if isinstance(entry, Metrics)]
    assert reported == [(1, {"loss": 3.0}), (2, {"loss": 2.0}), (2, {"AP": 0.5}), (3, {"loss": 1.0})]


def test_it_knows_which_data_was_noted(journal: Journal) -> None:
    journal.add(ENTRIES[4])
    again = Journal(journal.path.parent)
    assert again.has_dataset("training")
    assert not again.has_dataset("validation")


def test_a_damaged_file_is_refused_by_name(journal: Journal) -> None:
    journal.add(ENTRIES[0])
    with journal.path.open("a") as file:
        file.write("\0\0\n")
    with pytest.raises(JournalError, match=rf"{journal.path}: damaged at byte {journal.size}"):
        Journal(journal.path.parent)


@pytest.fixture
def full_disk(journal: Journal) -> Iterator[None]:
    """Limit files to a little more than one entry."""
    journal.add(ENTRIES[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size + 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_reported_while_the_disk_is_full_is_written_when_there_is_room(
    journal: Journal, full_disk: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        journal.add(ENTRIES[1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    journal.add(ENTRIES[2])
    assert "journal.jsonl: File too large" in caplog.text
    assert entries(Journal(journal.path.parent)) == [ENTRIES[0], ENTRIES[1], ENTRIES[2]]
