"""Earlier runs in a real MLflow store, as trainings and sweeps leave them there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from mrqm.config import Config
from mrqm.config.dotted import flatten
from pipelines.storage.run_dir import RunFolder
from pipelines.tracking.tracker import Tracker
from tune.search.searcher import Searcher, make_study
from tune.search.warm_start import PriorRuns, find_prior_runs
from tune.space.sampling import ConfigSampler
from tune.space.schema import SpaceError, make_space
from tune.state.journal import Journal, read_history
from tune.state.records import SessionBegan, WarmStarted

TinyConfig = Callable[..., Config]
IOU, WEIGHTS = "loss.mining.base_iou", "model.backbone.weights"
STAMP = {"data.digest": "d1", "protocol.coco": "p1"}
SPACE: dict[str, Any] = {
    "parameters": {IOU: {"uniform": [0.4, 0.7]}, "optim.lr": {"choice": ["1e-4", "1e-3"]}},
    "constraints": [f"{IOU} < 0.65"],
    "budget": {"trials": 4},
}


@pytest.fixture(scope="module")
def make_config(tiny_config: TinyConfig, tmp_path_factory: pytest.TempPathFactory) -> TinyConfig:
    folder = tmp_path_factory.mktemp("warm")
    places = [f"output_dir={folder}/runs", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    return lambda *overrides: tiny_config(*places, *overrides)


@pytest.fixture(scope="module", autouse=True)
def store(make_config: TinyConfig) -> None:
    """A store with one run for each reason why it is taken or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)

        def run(name: str, *overrides: str, scores: tuple[float, ...] = (0.1, 0.3, 0.2), **tags: str) -> None:
            config = make_config(f"name={name}", *overrides)
            RunFolder(config).path.mkdir(parents=True)
            named = {key.replace("__", "."): value for key, value in tags.items()}
            with Tracker(config, RunFolder(config), tags=STAMP | named) as tracker:
                for epoch, score in enumerate(scores, 1):
                    tracker.log_metrics({"epoch": epoch, "coco/AP": score}, 10 * epoch)

        trial: dict[str, str] = {"mlflow__source__name": "mrqm tune", "mlflow__parentRunId": "x", "sweep__name": "old"}
        run("alone", f"{IOU}=0.5", "optim.lr=1e-4", "data.root=elsewhere")
        run("pruned", f"{IOU}=0.6", scores=(0.05,), sweep__state="pruned", **trial)
        run("exploited", f"{IOU}=0.5", sweep__exploited="3 at epoch 2", **trial)
        run("outside", f"{IOU}=0.3")
        run("forbidden", f"{IOU}=0.69")
        run("longer", f"{IOU}=0.5", "train.epochs=9", scores=(0.1, 0.2, 0.3, 0.4))
        run("unmeasured", f"{IOU}=0.5", scores=())
        run("others-data", f"{IOU}=0.5", data__digest="d2")
        run("others-protocol", f"{IOU}=0.5", protocol__coco="p2")
        run("sweep", f"{IOU}=0.5", mlflow__source__name="mrqm tune")
        run("pictures", f"{IOU}=0.5", "tracking.experiment=other", data__digest="d2")


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def find(make_config: TinyConfig) -> Callable[..., PriorRuns]:
    def look(**warm_start: Any) -> PriorRuns:
        config = make_config()
        found = find_prior_runs(ConfigSampler(make_space(SPACE | {"warm_start": warm_start}), config), config, STAMP)
        assert found is not None
        return found

    return look


def test_runs_that_could_have_been_trials_are_taken_with_their_best_value(find: Callable[..., PriorRuns]) -> None:
    alone, pruned = find().runs
    assert (alone.params, alone.values, alone.pruned) == ({IOU: 0.5, "optim.lr": 1e-4}, (0.3,), False)
    assert alone.curve == {1: 0.1, 2: 0.3, 3: 0.2}
    assert (pruned.params, pruned.values, pruned.pruned) == ({IOU: 0.6, "optim.lr": 1e-3}, (0.05,), True)


def test_what_cannot_be_compared_is_left_out_and_told(find: Callable[..., PriorRuns]) -> None:
    assert set(find().left_out) == {
        "parameters changed while it trained", f"{IOU} is not one of 0.4 … 0.7",
        f"not allowed by constraint '{IOU} < 0.65'", "train.epochs was 9, is now 2", "coco/AP was not measured",
        "another data.digest: was d2, is now d1", "another protocol.coco: was p2, is now p1",
    }  # fmt: skip
    lines = find().describe()
    assert (lines[0], lines[-1]) == ("2 runs of experiment mrqm", "2 left out for other reasons")
    assert "1 left out: train.epochs was 9, is now 2" in lines


def test_keys_that_may_differ_are_named(find: Callable[..., PriorRuns]) -> None:
    assert [run.values for run in find(differ="train.epochs").runs] == [(0.3,), (0.05,), (0.4,)]


def test_a_section_that_was_chosen_is_known_again(make_config: TinyConfig) -> None:
    tile = {"data.tile": {"choice": [None, {"size": 160, "overlap": 40}]}}
    config = make_config("tracking.experiment=tiles")
    for name, word in (("whole", "data.tile=null"), ("tiles", "data.tile={overlap: 40, size: 160}")):
        trained = make_config(f"name={name}", "tracking.experiment=tiles", word)
        RunFolder(trained).path.mkdir(parents=True)
        with Tracker(trained, RunFolder(trained), tags=STAMP) as tracker:
            tracker.log_metrics({"epoch": 1, "coco/AP": 0.5}, 10)
    space = make_space({"parameters": tile, "budget": {"trials": 4}, "warm_start": {}})
    found = find_prior_runs(ConfigSampler(space, config), config, STAMP)
    assert found is not None
    assert [run.params for run in found.runs] == [{"data.tile": one} for one in tile["data.tile"]["choice"]]


@pytest.mark.parametrize(("kept", "taken"), [({}, 1), ({"optim.warmup_steps": "7"}, 0), ({"optim": "foreign"}, 1)])
def test_a_run_of_a_version_without_a_key_counts_with_its_default(
    make_config: TinyConfig, tmp_path: Path, kept: dict[str, str], taken: int
) -> None:
    config = make_config(f"tracking.uri=sqlite:///{tmp_path}/old.db", "optim.lr=1e-3", "optim.warmup_steps=500")
    params = {key: str(value) for key, value in flatten(config.model_dump(mode="json")).items()}
    del params["optim.warmup_steps"], params["loss.mining.growth"]
    client = MlflowClient(config.tracking.uri)
    run = client.create_run(client.create_experiment("mrqm"), tags=STAMP).info.run_id
    client.log_batch(run, params=[Param(*item) for item in (params | kept).items()])
    client.log_metric(run, "epoch", 1, step=10)
    client.log_metric(run, "coco/AP", 0.5, step=10)
    client.set_terminated(run)
    sampler = ConfigSampler(make_space(SPACE | {"warm_start": {}}), config)
    if taken:
        found = find_prior_runs(sampler, config, STAMP)
        assert found is not None and len(found.runs) == taken
    else:
        with pytest.raises(SpaceError, match=r"optim\.warmup_steps was 7, is now 500"):
            find_prior_runs(sampler, config, STAMP)


def test_a_sweep_is_named(find: Callable[..., PriorRuns]) -> None:
    assert [run.values for run in find(sweeps=["old"]).runs] == [(0.05,)]


@pytest.mark.parametrize(
    ("warm_start", "message"),
    [
        ({"sweeps": "new"}, r"has no sweep new; it has old"),
        ({"experiment": "none"}, r"there is no 'none' at sqlite.*; there are .*mrqm"),
        (
            {"experiment": "other"},
            r"nothing in experiment other .*\n  1 left out: another data\.digest: was d2, is now d1",
        ),
    ],
)
def test_what_is_not_there_or_cannot_be_compared_at_all_is_refused(
    find: Callable[..., PriorRuns], warm_start: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        find(**warm_start)


def test_a_key_that_may_differ_but_is_none_is_refused(make_config: TinyConfig) -> None:
    space = make_space(SPACE | {"warm_start": {"differ": ["train.epoch"]}})
    with pytest.raises(SpaceError, match=r"warm_start\.differ: train\.epoch is no key"):
        ConfigSampler(space, make_config()).check()


def test_the_search_learns_from_them_and_remembers_them(
    find: Callable[..., PriorRuns], make_config: TinyConfig, tmp_path: Path
) -> None:
    """With two known runs TPE has no random start left; the journal alone gives the same suggestion again."""
    space = make_space(SPACE | {"search": {"startup_trials": 2}})
    sampler = ConfigSampler(space, make_config())
    cold, warm = Journal(tmp_path / "cold"), Journal(tmp_path / "warm")
    cold.write(SessionBegan(trials=4))
    warm.write(WarmStarted(runs=find().runs))
    cold.close()
    warm.close()
    first = Searcher(sampler, warm).suggest()
    assert first != Searcher(sampler, cold).suggest()
    again = read_history(tmp_path / "warm")
    assert Searcher(sampler, again).suggest() == first
    assert [trial.values for trial in make_study(space, again).trials] == [[0.3], [0.05]]
