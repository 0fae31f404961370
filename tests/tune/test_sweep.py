"""Sweeps as users run them: `mrqm tune` in processes of its own, on a real Ray."""

import io
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from ray.cluster_utils import Cluster
from rich.console import Console
from safetensors.torch import load_file

from mrqm.config import load_config
from mrqm.engine.trainer import Trainer
from pipelines.storage.run_dir import RunError
from pipelines.training.driver import train
from tune.context import Request
from tune.report.leaderboard import print_result
from tune.report.result import SweepResult
from tune.space.schema import overrides
from tune.state.checkpoints import copy_whole
from tune.state.history import History
from tune.state.journal import read_history
from tune.state.records import GenerationEnded
from tune.sweep import sweep

from ..commands import CUT_SHORT, SIGNALS, Command
from ..disks import fill
from ..waiting import wait_until
from .workplace import Workplace, leaves_nothing, start_cluster

pytestmark = pytest.mark.ray

SPACE = """
objective: {metric: train/loss, mode: min}
search: {algorithm: tpe, startup_trials: 2}
scheduler: {algorithm: asha, reduction_factor: 2}
budget: {trials: 5}
fixed: {train.epochs: 3}
parameters:
  optim.lr: {choice: [1e-4, 1e-3, 3e-3, 1e20]}
  loss.one_to_many.dense_loss_weight: {uniform: [0.5, 2]}
points_to_evaluate:
  - {optim.lr: 1e20, loss.one_to_many.dense_loss_weight: 1.0}
  - {optim.lr: 1e-3, loss.one_to_many.dense_loss_weight: 0.5}
  - {optim.lr: 1e-3, loss.one_to_many.dense_loss_weight: 2.0} # a larger weight is a larger loss
"""
PBT = """
objective: {metric: train/loss, mode: min}
search: {algorithm: random}
scheduler: {algorithm: pbt, perturbation_interval: 1}
budget: {trials: 3}
fixed: {train.epochs: 3, train.evaluate_every: 9}
parameters:
  optim.lr: {loguniform: [1e-5, 1e-2]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that has room for one trial at a time, and this process in it."""
    with start_cluster(num_cpus=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def workplace(place: Path, cluster: Cluster) -> Iterator[Workplace]:
    """A place for sweeps, and this process's folder."""
    (place / "space.yaml").write_text(SPACE)
    (place / "population.yaml").write_text(PBT)
    (place / "other.yaml").write_text(SPACE.replace("train/loss", "coco/AP").replace("mode: min", "mode: max"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        found = Workplace(place, cluster.address)
        yield found
        found.close()


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def outcome(workplace: Workplace, log: io.StringIO) -> SweepResult:
    """A sweep of five trials, the first of which diverges."""
    console = Console(file=log, width=120)
    found = sweep(Request(Path("tiny.yaml"), Path("space.yaml"), ["name=whole"]), console)
    assert found is not None
    print_result(found, console)
    return found


@pytest.fixture(scope="module")
def killed(workplace: Workplace, cluster: Cluster, outcome: SweepResult) -> Command:
    """The same sweep, whose driver was killed three times: in a trial, between two and where one was pruned."""
    for reports in (1, 5, 7):
        command = workplace.tune("killed", "space")
        command.wait_until(lambda: len(workplace.reports("killed")) >= reports, "reports")  # noqa: B023
        command.kill()
        wait_until(leaves_nothing, "a killed sweep leaves nothing")
    refuses_what_is_something_else(workplace, "killed")
    command = workplace.tune("killed", "space")
    command.end()
    return command


def refuses_what_is_something_else(workplace: Workplace, name: str) -> None:
    """Another configuration or space, edited annotations, more trials at the wrong time: each with the reason."""
    folder = workplace.folder / "runs" / name

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()

    def is_refused(reason: str, *words: str, more: int = 0, space: str = "space.yaml") -> None:
        with pytest.raises(RunError, match=reason):
            sweep(Request(Path("tiny.yaml"), Path(space), [f"name={name}", *words], more), Console(file=io.StringIO()))
        assert contents() == before

    is_refused(r"data\.scale: was 1\.0, is now 0\.5", "data.scale=0.5")
    is_refused(r"objective: was .*, is now", space="other.yaml")
    labels = max((workplace.folder / "data" / "val" / "annotations").iterdir(), key=lambda path: path.stat().st_size)
    original = labels.read_text()
    labels.write_text("".join(original.splitlines(keepends=True)[1:]))
    is_refused(r"data\.val: was 3 images.*, is now 3 images.*")
    labels.write_text(original)
    if workplace.history(name).running():
        is_refused("only a sweep that is finished can be given more", more=1)


def test_a_finished_sweep_is_not_repeated_as_something_else(outcome: SweepResult, workplace: Workplace) -> None:
    refuses_what_is_something_else(workplace, "whole")


def what_happened(history: History) -> list[Any]:
    return [(t.params, [(r.epoch, r.metrics, r.verdict) for r in t.results], t.state) for t in history.trials]


def test_a_sweep_ends_with_a_leaderboard(outcome: SweepResult, log: io.StringIO) -> None:
    for words in ("5 of 3 epochs, 1 at once", "AP/hour", "swept version 1", "report.html", "train it again"):
        assert words in log.getvalue()


def test_a_trial_that_diverges_is_told_and_the_sweep_goes_on(outcome: SweepResult, log: io.StringIO) -> None:
    assert "trial 0   failed: DivergenceError" in log.getvalue()
    states = [trial.state for trial in outcome.history.trials]
    assert states[0] == "failed"
    assert outcome.history.trials[0].violation == "diverged"
    assert set(states[1:]) == {"finished", "pruned"}


def test_trials_are_children_of_the_sweep_in_mlflow(outcome: SweepResult, workplace: Workplace) -> None:
    children = workplace.children("whole")
    assert set(children) == {f"trial-{number:04d}" for number in range(5)}
    assert children["trial-0000"].info.status == "FAILED"
    for trial in outcome.history.trials[1:]:
        run = children[trial.name]
        assert run.data.tags["sweep.state"] == trial.state
        assert run.data.params["optim.lr"] == str(float(trial.params["optim.lr"]))
        assert run.data.metrics["epoch"] == trial.epoch


def test_the_report_is_in_the_parent_run(outcome: SweepResult) -> None:
    files = MlflowClient(outcome.tracking_uri).list_artifacts(outcome.run_id)
    assert "report.html" in {file.path for file in files}
    note = MlflowClient(outcome.tracking_uri).get_run(outcome.run_id).data.tags["mlflow.note.content"]
    assert outcome.reproduce is not None and outcome.reproduce in note
    assert f"Best: trial {outcome.best.number}" in note and "&emsp; | finished&emsp; |" in note
    text = outcome.report.read_text()
    assert all(word in text for word in ("Leaderboard", "Learning curves", "All trials", "DivergenceError"))


def test_the_sweeps_run_says_what_data_its_trials_read(outcome: SweepResult) -> None:
    run = MlflowClient(outcome.tracking_uri).get_run(outcome.run_id)
    contexts = [tag.value for used in run.inputs.dataset_inputs for tag in used.tags]
    assert sorted(contexts) == ["training", "validation"]
    (validation,) = [used.dataset for used in run.inputs.dataset_inputs if used.tags[0].value == "validation"]
    assert run.data.tags["data.digest"].startswith(validation.digest)


def test_the_best_model_carries_the_sweeps_lineage(outcome: SweepResult) -> None:
    version = MlflowClient(outcome.tracking_uri).get_model_version("swept", "1")
    assert (version.tags["sweep.name"], version.tags["sweep.run_id"]) == ("whole", outcome.run_id)
    assert {"sweep.trial", "data.digest", "protocol.coco", "checkpoint.sha256"} <= version.tags.keys()


def test_only_the_best_trial_keeps_its_checkpoint(outcome: SweepResult) -> None:
    assert list(outcome.report.parent.glob("trial-*/epoch_*")) == [outcome.checkpoint]


def test_the_reproduce_command_gives_the_same_metrics(outcome: SweepResult) -> None:
    assert outcome.reproduce is not None
    words = shlex.split(outcome.reproduce)
    assert words[1:4] == ["train", "-c", "tiny.yaml"]
    summary = train(
        load_config(words[3], [*words[4:], "tracking.registered_model_name=null"]), Console(file=io.StringIO())
    )
    client = MlflowClient(outcome.tracking_uri)
    again = {m.step: m.value for m in client.get_metric_history(summary.run_id, "coco/AP50")}
    assert again == {result.step: result.metrics["coco/AP50"] for result in outcome.best.results}


def test_a_sweep_that_is_killed_again_and_again_is_the_uninterrupted_one(
    outcome: SweepResult, killed: Command, workplace: Workplace
) -> None:
    assert killed.end() == 0, killed.said
    assert what_happened(workplace.history("killed")) == what_happened(outcome.history)


def test_nothing_is_missing_or_twice_in_mlflow_after_kills(killed: Command, workplace: Workplace) -> None:
    client = MlflowClient(f"sqlite:///{workplace.folder}/mlflow.db")
    children = workplace.children("killed")
    for trial in workplace.history("killed").trials:
        epochs = [int(m.value) for m in client.get_metric_history(children[trial.name].info.run_id, "epoch")]
        assert sorted(epochs) == [result.epoch for result in trial.results]


def test_nothing_but_the_sweep_is_printed(killed: Command) -> None:
    assert not any(word in killed.said for word in ("SweepTrial", "INFO", "WARN", "View detailed", "Traceback"))
    first, second, *_ = killed.output.splitlines()
    assert first.startswith("backbone  test_resnet: ")
    assert second == "reading annotations"


def test_no_reservation_is_left_behind(outcome: SweepResult, cluster: Cluster) -> None:
    wait_until(leaves_nothing, "nothing is reserved")


def test_a_finished_sweep_is_extended_and_what_failed_runs_again(
    outcome: SweepResult, killed: Command, workplace: Workplace
) -> None:
    log = io.StringIO()
    request = Request(Path("tiny.yaml"), Path("space.yaml"), ["name=whole"], add_trials=1, retry_failed=True)
    extended = sweep(request, Console(file=log))
    assert extended is not None
    assert "trial 0   had failed and starts again" in log.getvalue()
    assert [trial.retries for trial in extended.history.trials] == [1, 0, 0, 0, 0, 0]
    assert what_happened(extended.history)[:5] == what_happened(outcome.history)
    assert (len(extended.history.trials), len(workplace.children("whole"))) == (6, 6)


@SIGNALS
def test_a_signal_ends_a_sweep_and_its_runs(
    number: signal.Signals, send: Callable[[Command, signal.Signals], None], workplace: Workplace, cluster: Cluster
) -> None:
    """To the command alone where the cluster outlives it, to its group where that has Ray's processes too."""
    name = f"to-{number:d}-{send.__name__}"
    own_ray = {} if send is Command.send else {"RAY_ADDRESS": None}
    command = workplace.tune(name, "space", **own_ray)
    command.wait_until(lambda: workplace.reports(name), "a report")
    started = command.children()
    send(command, number)
    assert command.end() == 130, command.said
    assert command.output.endswith("stopped; the same command continues the sweep\n")
    assert not any(word in command.said for word in (CUT_SHORT, "SIGTERM", "Traceback"))  # Ray's own handler prints it
    assert workplace.run(name).info.status == "KILLED"
    assert "RUNNING" not in {run.info.status for run in workplace.children(name).values()}
    wait_until(leaves_nothing, "nothing is reserved")
    wait_until(lambda: not any(process.is_running() for process in started), "what it started ends")


def test_a_sweep_outlives_a_full_disk_and_a_deleted_experiment(
    outcome: SweepResult, workplace: Workplace, small_disk: Callable[[int], Path]
) -> None:
    """It is the uninterrupted sweep, and ends with table and report; what MLflow lacks comes with the same command."""
    disk, client = small_disk(80 * 2**20), MlflowClient(outcome.tracking_uri)  # seven checkpoints of 7 MB, at most
    words = f"output_dir={disk}", "tracking.experiment=doomed", "tracking.registered_model_name=late"
    command = workplace.tune("starved", "space", *words)
    history = lambda: read_history(disk / "starved" / "sweep.jsonl")  # noqa: E731
    command.wait_until(lambda: any(trial.results for trial in history().trials), "a report")
    command.wait_until(lambda: fill(disk) and "waiting for storage" in command.output, "it waits")
    fill(disk).unlink()
    command.wait_until(lambda: sum(len(trial.results) for trial in history().trials) > 2, "more reports")
    experiment = client.get_experiment_by_name("doomed").experiment_id
    client.delete_experiment(experiment)
    assert command.end() == 0, command.said
    assert what_happened(history()) == what_happened(outcome.history)
    assert "AP/hour" in command.output and "Traceback" not in command.said
    assert "MLflow did not accept it; the same command tries again" in command.output
    assert "MLflow lacks a part of" in command.output
    assert "Leaderboard" in (disk / "starved" / "report.html").read_text()

    client.restore_experiment(experiment)
    again = workplace.tune("starved", "space", *words)
    assert again.end() == 0, again.said
    assert "late version 1" in again.output and "MLflow lacks a part" not in again.output
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert runs["starved"].info.status == "FINISHED"
    for trial in history().trials:
        assert runs[trial.name].data.tags["sweep.state"] == trial.state
        epochs = client.get_metric_history(runs[trial.name].info.run_id, "epoch")
        assert sorted(metric.value for metric in epochs) == [result.epoch for result in trial.results]


def test_a_trial_of_a_population_goes_on_from_its_donors_weights(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first exploit: what is copied, what it trains from, and what journal and MLflow say of it."""

    def copy_and_keep(source: Path, target: Path) -> None:
        copy_whole(source, target)
        for path in (source, target):  # which the sweep removes later
            shutil.copytree(path, tmp_path / path.parent.name / path.name, dirs_exist_ok=True)

    monkeypatch.setattr("tune.search.pbt.copy_whole", copy_and_keep)
    found = sweep(Request(Path("tiny.yaml"), Path("population.yaml"), ["name=population"]), Console(file=io.StringIO()))
    assert found is not None

    exploit = next(e for e in found.history.entries if isinstance(e, GenerationEnded)).exploits[0]
    child, source_trial = found.history.trials[exploit.trial], found.history.trials[exploit.source_trial]
    copied, weights = tmp_path / exploit.checkpoint, tmp_path / source_trial.name / "epoch_0001"
    assert weights_of(copied).keys() == weights_of(weights).keys()
    assert all(torch.equal(value, weights_of(weights)[name]) for name, value in weights_of(copied).items())

    words = [*overrides(exploit.params), "train.epochs=3", "train.evaluate_every=9"]
    trainer = Trainer(load_config("tiny.yaml", words), torch.device("cpu"))
    trainer.load(weights)
    assert child.results[1].metrics["train/loss"] == trainer.train_epoch()["loss"]

    run = workplace.children("population")[child.name]
    assert run.data.tags["sweep.exploited"] == f"{child.exploits[-1][1].source_trial} at epoch {child.exploits[-1][0]}"
    assert run.data.tags["sweep.optim.lr"] == str(child.params["optim.lr"])


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")
