import resource
from pathlib import Path

import pytest

from tune.state.journal import Journal, JournalError, read_history
from tune.state.records import Reported, SessionBegan, TrialBegan


def write(path: Path) -> None:
    journal = Journal(path)
    journal.write(SessionBegan(trials=4, at=100))
    journal.write(TrialBegan(trial=0, params={"optim.lr": 0.1}, at=110))
    journal.write(
        Reported(
            trial=0, epoch=1, step=3, metrics={"coco/AP": 0.5}, seconds=2, checkpoint="c", verdict="pruned", at=136
        )
    )
    journal.close()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "j")
    history = read_history(tmp_path / "j")
    assert history.wanted_trials == 4
    (trial,) = history.trials
    assert (trial.state, trial.epoch, trial.checkpoint, trial.seconds) == ("pruned", 1, "c", 2)


def test_half_a_line_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    write(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-9])
    assert read_history(tmp_path / "j").trials[0].state == "running"
    journal = Journal(tmp_path / "j")
    journal.write(TrialBegan(trial=1, params={}))
    journal.close()
    assert [trial.number for trial in read_history(tmp_path / "j").trials] == [0, 1]


def test_damage_within_a_journal_is_named(tmp_path: Path) -> None:
    write(tmp_path / "j")
    lines = (tmp_path / "j").read_text().splitlines(keepends=True)
    (tmp_path / "j").write_text(lines[0] + "{}\n" + lines[2])
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal(tmp_path / "j")


def test_hours_are_those_of_sessions_not_of_the_time_between(tmp_path: Path) -> None:
    write(tmp_path / "j")
    journal = Journal(tmp_path / "j")
    journal.write(SessionBegan(trials=4, at=100_000))
    journal.write(TrialBegan(trial=1, params={}, at=100_036))
    assert journal.hours == pytest.approx(72 / 3600)


def test_a_full_disk_is_waited_for_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "j")
    journal = Journal(tmp_path / "j")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "j").stat().st_size + 10, limit[1]))
    left: list[bytes] = []

    def make_room(seconds: float) -> None:
        left.append((tmp_path / "j").read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    monkeypatch.setattr("pipelines.failures.storage_wait.time.sleep", make_room)
    try:
        journal.write(TrialBegan(trial=1, params={"optim.lr": 0.5}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    journal.write(TrialBegan(trial=2, params={}))
    assert len(left) == 1
    assert [trial.number for trial in read_history(tmp_path / "j").trials] == [0, 1, 2]
    assert "waiting for storage, 10 minutes at most: j could not be written" in caplog.text
