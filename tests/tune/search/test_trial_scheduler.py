import contextlib
import resource
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from mrqm.config import Config
from pipelines.failures.classification import FINAL, classify
from pipelines.failures.policy import PATIENCE, FailurePolicy
from pipelines.failures.taxonomy import Failure, FailureKind
from pipelines.storage.filesystem import StorageError
from tune.search.trial_scheduler import FAILURES_TO_STOP, TrialScheduler
from tune.state.history import History
from tune.state.journal import Journal
from tune.state.records import Failed, GenerationEnded, SessionBegan, TrialBegan

from ..simulation import EPOCHS, Killed, Simulation

TinyConfig = Callable[..., Config]
IOU, WEIGHT = "loss.mining.base_iou", "loss.one_to_many.dense_loss_weight"
PARAMETERS = {IOU: {"uniform": [0.3, 0.8]}, WEIGHT: {"loguniform": [0.1, 10]}}
WEIGHTS = {"choice": ["1e-1", 2]}
PBT = {
    "search": {"algorithm": "random"},
    "scheduler": {"algorithm": "pbt", "perturbation_interval": 2},
    "budget": {"trials": 6},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "tpe": {"search": {"algorithm": "tpe", "startup_trials": 3}, "scheduler": {"algorithm": "asha"}},
    "random": {"search": {"algorithm": "random"}, "scheduler": {"algorithm": "median"}},
    "hyperband": {"search": {"algorithm": "tpe", "startup_trials": 3}, "scheduler": {"algorithm": "hyperband"}},
    "grid": {
        "search": {"algorithm": "grid"},
        "scheduler": {"algorithm": "asha"},
        "parameters": {IOU: {"choice": [0.4, 0.5, 0.6]}, WEIGHT: {"choice": [0.5, 1, 2]}},
    },
    "nsga2": {
        "search": {"algorithm": "nsga2", "startup_trials": 4},
        "scheduler": {"algorithm": "none"},
        "objective": ["coco/AP", {"metric": "train/loss", "mode": "min"}],
    },
    "pbt": PBT,
}


def score(params: Mapping[str, Any], epoch: int) -> float:
    """Best at IoU 0.55 and weight 1."""
    return 1 - abs(params[IOU] - 0.55) - 0.1 * abs(params[WEIGHT] - 1) + 0.05 * epoch


class TwoScores(Simulation):
    def train(self, task: Any, epoch: int) -> Any:
        report = super().train(task, epoch)
        report.metrics["train/loss"] = task.params[WEIGHT] / epoch
        return report


@pytest.fixture
def make(tiny_config: TinyConfig, tmp_path: Path) -> Callable[..., Simulation]:
    def build(name: str = "one", **space: Any) -> Simulation:
        (tmp_path / name).mkdir()
        return TwoScores(
            tiny_config(f"train.epochs={EPOCHS}"), tmp_path / name, score, **{"parameters": PARAMETERS} | space
        )

    return build


def what_happened(history: History) -> list[Any]:
    """Of every trial: parameters, scores, end and, in a population, donors."""
    return [
        (
            t.params,
            [(r.epoch, r.metrics, r.verdict) for r in t.results],
            t.state,
            [(e, x.source_trial) for e, x in t.exploits],
        )
        for t in history.trials
    ]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_sweep_that_is_killed_again_and_again_is_the_uninterrupted_one(
    make: Callable[..., Simulation], search: str
) -> None:
    uninterrupted = make("uninterrupted", **SEARCHES[search]).run()
    killed = make("killed", **SEARCHES[search])
    for epochs in (1, 4, 7):
        with contextlib.suppress(Killed):
            killed.run(kill_after=epochs)
    assert what_happened(killed.run()) == what_happened(uninterrupted)
    assert len(uninterrupted.trials) == (6 if search == "pbt" else 9)


@pytest.mark.parametrize("search", ["tpe", "random", "hyperband", "grid"])
def test_bad_trials_are_pruned_and_good_ones_are_not(make: Callable[..., Simulation], search: str) -> None:
    history = make(**SEARCHES[search]).run()
    assert {trial.state for trial in history.trials} == {"finished", "pruned"}
    best = history.best_trials(make("space").sampler.space.objective[0])[0]
    assert best.state == "finished"
    assert all(trial.epoch < EPOCHS for trial in history.trials if trial.state == "pruned")


def test_tpe_learns(make: Callable[..., Simulation]) -> None:
    space: dict[str, Any] = {"scheduler": {"algorithm": "none"}, "budget": {"trials": 30}}
    later = {}
    for search in ("tpe", "random"):
        trials = make(search, **space, search={"algorithm": search, "startup_trials": 5, "seed": 1}).run().trials
        later[search] = median(score(trial.params, 0) for trial in trials[10:])
    assert later["tpe"] > later["random"] + 0.05


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_no_trial_repeats_another_and_a_sweep_that_had_all_ends(make: Callable[..., Simulation], search: str) -> None:
    few = {IOU: {"uniform": [0.4, 0.7], "step": 0.1}, WEIGHT: {"choice": [0.5, 1, 2]}}
    history = make(search={"algorithm": search}, parameters=few, budget={"trials": 20}).run(slots=2)
    assert len({tuple(trial.params.values()) for trial in history.trials}) == len(history.trials) == 4 * 3


def test_disk_is_bounded_while_a_sweep_goes_on(make: Callable[..., Simulation]) -> None:
    simulation = make(**SEARCHES["tpe"])
    most = 0
    train = simulation.train

    def counting(task: Any, epoch: int) -> Any:
        nonlocal most
        report = train(task, epoch)
        most = max(most, len(list(simulation.folder.glob("trial-*/epoch_*"))))
        return report

    simulation.train = counting  # type: ignore[method-assign]
    history = simulation.run(slots=2)
    assert most <= 2 * 3 + 1
    best = history.best_trials(simulation.sampler.space.objective[0])[0].best(simulation.sampler.space.objective[0])
    assert best is not None
    assert list(simulation.folder.glob("trial-*/epoch_*")) == [simulation.folder / best.checkpoint]


def test_the_worst_of_a_population_go_on_from_copies_of_the_best(make: Callable[..., Simulation]) -> None:
    simulation = make(**PBT)
    history = simulation.run(slots=2)
    generations = [entry for entry in history.entries if isinstance(entry, GenerationEnded)]
    assert [generation.epoch for generation in generations] == [2, 4, 6, 8]
    assert all(len(generation.exploits) == 2 for generation in generations)
    first = generations[0]
    before = {t.number: t.results[1].metrics["coco/AP"] for t in history.trials}
    ranked = sorted(before, key=lambda number: before[number])
    assert {exploit.trial for exploit in first.exploits} == set(ranked[:2])
    assert {exploit.source_trial for exploit in first.exploits} <= set(ranked[-2:])
    assert all(trial.epoch == EPOCHS for trial in history.trials)


def test_a_population_is_the_same_on_any_number_of_processes(make: Callable[..., Simulation]) -> None:
    assert what_happened(make("one", **PBT).run()) == what_happened(make("three", **PBT).run(slots=3))


def test_a_finished_sweep_is_extended(make: Callable[..., Simulation]) -> None:
    simulation = make(**SEARCHES["tpe"])
    before = what_happened(simulation.run())
    assert what_happened(simulation.run()) == before
    assert what_happened(simulation.run(trials=12))[:9] == before
    assert len(simulation.run(trials=12).trials) == 12


DEATH = Failure(FailureKind.PROCESS_LOST, "the actor died")
FULL = Failure(FailureKind.STORAGE, "OSError: No space left on device")
BROKEN = Failure(FailureKind.PROGRAM, "KeyError: 'boxes'", final=True)
FAILURES = [Failure(kind, "what happened", final=kind in FINAL) for kind in FailureKind]
RETRIES = FailurePolicy().max_failures


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("tune.search.trial_scheduler.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def scheduled(make: Callable[..., Simulation]) -> tuple[TrialScheduler, Journal, Simulation]:
    simulation = make(**SEARCHES["tpe"])
    journal = Journal(simulation.folder / "journal.jsonl")
    journal.write(SessionBegan(trials=9))
    return TrialScheduler(simulation.sampler, journal, simulation.folder, EPOCHS), journal, simulation


Scheduled = tuple[TrialScheduler, Journal, Simulation]


def test_a_trial_whose_process_died_goes_on_from_its_checkpoint(scheduled: Scheduled) -> None:
    scheduler, _, simulation = scheduled
    task = scheduler.next()
    assert task is not None
    scheduler.report(task.trial, simulation.train(task, 1))
    scheduler.fail(task.trial, DEATH)
    again = scheduler.next()
    assert again is not None
    assert (again.trial, again.params) == (task.trial, task.params)
    assert again.checkpoint == str(simulation.folder / "trial-0000" / "epoch_0001")


def test_a_process_that_always_dies_fails_its_trial(scheduled: Scheduled) -> None:
    scheduler, journal, _ = scheduled
    for _ in range(RETRIES + 1):
        assert scheduler.next() is not None
        scheduler.fail(0, DEATH)
    assert journal.trials[0].state == "failed"
    assert journal.trials[0].error == "failed 4 times without progress: the actor died"


def test_failures_are_counted_anew_after_every_epoch(scheduled: Scheduled) -> None:
    scheduler, journal, simulation = scheduled
    for epoch in (1, 2):
        for _ in range(RETRIES):
            assert scheduler.next() is not None
            scheduler.fail(0, DEATH)
        task = scheduler.next()
        assert task is not None
        scheduler.report(0, simulation.train(task, epoch))
        scheduler.fail(0, DEATH)
    assert journal.trials[0].state == "running"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: str(failure.kind))
def test_no_failure_removes_the_last_good_checkpoint(scheduled: Scheduled, failure: Failure) -> None:
    """Neither when it comes, nor when other trials report and what is of no more use is removed."""
    scheduler, _, simulation = scheduled
    task = scheduler.next()
    assert task is not None
    scheduler.report(0, simulation.train(task, 1))
    scheduler.report(0, simulation.train(task, 2))
    good = simulation.folder / "trial-0000" / "epoch_0002"
    for _ in range(RETRIES + 1):
        scheduler.fail(0, failure)
        assert good.is_dir()
    if failure.kind not in (FailureKind.STORAGE, FailureKind.PREEMPTED):  # of which no trial fails
        other = scheduler.next()
        assert other is not None and other.trial == 1
        for epoch in range(1, EPOCHS + 1):
            scheduler.report(1, simulation.train(other, epoch))
    assert good.is_dir()


def test_a_storage_that_stays_away_stops_the_sweep_and_fails_no_trial(scheduled: Scheduled, clock: list[float]) -> None:
    """It is waited for longer each time; nothing else begins meanwhile."""
    scheduler, journal, _ = scheduled
    for _ in range(1000):
        if (task := scheduler.next()) is None and scheduler.is_over():
            break
        if task is None:
            clock[0] += 1
        else:
            scheduler.fail(task.trial, FULL)
    assert scheduler.halted == FULL
    assert clock[0] == pytest.approx(PATIENCE, rel=0.2)
    assert [trial.state for trial in journal.trials] == ["running"]


def test_a_storage_that_was_waited_for_in_vain_stops_the_sweep_at_once(scheduled: Scheduled) -> None:
    scheduler, journal, _ = scheduled
    assert scheduler.next() is not None
    scheduler.fail(0, classify(StorageError("trial-0000/epoch_0001 could not be written for 10 minutes")))
    assert scheduler.halted is not None and scheduler.next() is None
    assert journal.trials[0].state == "running"


def test_a_journal_that_cannot_be_written_stops_the_sweep_without_an_exception(
    scheduled: Scheduled, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Tune would make a traceback of one."""
    scheduler, journal, simulation = scheduled
    task = scheduler.next()
    assert task is not None
    epoch = simulation.train(task, 1)
    size = (simulation.folder / "journal.jsonl").stat().st_size
    monkeypatch.setattr(
        "pipelines.failures.storage_wait.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + 60)
    )
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limit[1]))
    try:
        assert not scheduler.report(task.trial, epoch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert scheduler.is_over() and scheduler.next() is None
    assert scheduler.halted is not None
    assert "journal.jsonl could not be written for 10 minutes" in scheduler.halted.message
    assert (journal.trials[0].state, journal.trials[0].results) == ("running", [])


def test_a_trial_whose_checkpoint_was_removed_by_hand_begins_again(scheduled: Scheduled) -> None:
    scheduler, journal, simulation = scheduled
    task = scheduler.next()
    assert task is not None
    scheduler.report(0, simulation.train(task, 1))
    scheduler.fail(0, DEATH)
    shutil.rmtree(simulation.folder / "trial-0000" / "epoch_0001")
    again = scheduler.next()
    assert again is not None and (again.trial, again.checkpoint) == (0, None)
    assert scheduler.report(0, simulation.train(again, 1)), "what is known already is not decided again"
    assert scheduler.report(0, simulation.train(again, 2))
    assert [result.epoch for result in journal.trials[0].results] == [1, 2]


def test_a_score_that_is_no_number_fails_the_trial_alone(scheduled: Scheduled) -> None:
    scheduler, journal, simulation = scheduled
    task = scheduler.next()
    assert task is not None
    report = simulation.train(task, 1)
    del report.metrics["coco/AP"]
    report.metrics.update({"train/loss_giou": 1.0, "coco/AP_small": 0.5})
    assert not scheduler.report(task.trial, report)
    assert journal.trials[0].error == "epoch 1: coco/AP is not a number; numbers are train/loss, coco/AP_small"
    assert scheduler.next() is not None


def test_a_sweep_whose_trials_all_fail_ends(scheduled: Scheduled) -> None:
    scheduler, _, _ = scheduled
    for number in range(FAILURES_TO_STOP):
        assert scheduler.next() is not None
        scheduler.fail(number, BROKEN)
    assert scheduler.has_only_failures()
    assert scheduler.next() is None


def test_hours_end_a_sweep(make: Callable[..., Simulation]) -> None:
    simulation = make(**SEARCHES["tpe"], budget={"trials": 9, "hours": 1e-9})
    history = simulation.run()
    assert [trial.state for trial in history.trials] == ["stopped"]


def test_gpu_hours_end_a_sweep(make: Callable[..., Simulation]) -> None:
    simulation = make(**SEARCHES["tpe"], budget={"trials": 9, "gpu_hours": 4.5 / 3600})
    journal = Journal(simulation.folder / "journal.jsonl")
    journal.write(SessionBegan(trials=9))
    scheduler = TrialScheduler(simulation.sampler, journal, simulation.folder, EPOCHS, gpus=2)
    task = scheduler.next()
    assert task is not None
    assert [scheduler.report(0, simulation.train(task, epoch)) for epoch in (1, 2, 3)] == [True, True, False]
    assert scheduler.is_over()


@pytest.mark.parametrize("search", ["tpe", "random", "grid"])
def test_trials_to_start_with_that_are_the_same_run_once(make: Callable[..., Simulation], search: str) -> None:
    start = [{IOU: 0.5, WEIGHT: 1}, {WEIGHT: 1.0, IOU: "0.5"}, {IOU: 0.4, WEIGHT: 2}, {IOU: 0.5, WEIGHT: 1}]
    trials = [trial.params for trial in make(**SEARCHES[search], points_to_evaluate=start).run().trials]
    assert trials[:2] == [{IOU: 0.5, WEIGHT: 1}, {IOU: 0.4, WEIGHT: 2}]
    assert len(trials) == len({tuple(trial.values()) for trial in trials}) == 9


@pytest.mark.parametrize("search", ["tpe", "random", "grid"])
def test_a_journal_of_another_version_is_gone_on_with(make: Callable[..., Simulation], search: str) -> None:
    """It has trials that were the same, and numbers that were read as words."""
    simulation = make(**SEARCHES[search] | {"parameters": {IOU: {"choice": [0.4, 0.5, 0.6]}, WEIGHT: WEIGHTS}})
    with contextlib.closing(Journal(simulation.folder / "journal.jsonl")) as journal:
        journal.write(SessionBegan(trials=6))
        for number in range(2):
            journal.write(TrialBegan(trial=number, params={IOU: 0.4, WEIGHT: "1e-1"}))
            journal.write(Failed(trial=number, error="of that time"))
    trials = [trial.params for trial in simulation.run(trials=7).trials]
    assert sorted((trial[IOU], trial[WEIGHT]) for trial in trials[2:]) == [
        (iou, weight) for iou in (0.4, 0.5, 0.6) for weight in (0.1, 2) if (iou, weight) != (0.4, 0.1)
    ]
