"""A training as people see it: MLflow's own pages in Chromium, from a server on SQLite and from one on PostgreSQL."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console

from mrqm.config import Config, load_config
from pipelines.console.training_display import Display
from pipelines.preflight.inputs import check_inputs
from pipelines.registry.register import register
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.run_dir import RunFolder
from pipelines.storage.run_summary import Summary
from pipelines.tracking.tracker import Tracker
from pipelines.training.driver import train

from ..registered import succeed
from ..servers.chromium import Browser, find_browser, open_browser
from ..servers.mlflow_server import MlflowServer
from ..servers.postgres_server import PostgresServer, find_programs
from ..workplace import Workplace

pytestmark = pytest.mark.ray

CURVES = """Object.fromEntries([...document.querySelectorAll('.js-plotly-plot')].flatMap(plot =>
    plot.data.filter(line => line.x && line.x.length).map(line => [line.metricKey, [line.x, line.y]])))"""
"""Steps and values of each curve that is drawn, by metric."""
PICTURES = """[...document.images].filter(picture => picture.naturalWidth > 200)
    .map(picture => [picture.naturalWidth, picture.naturalHeight])"""
"""Sizes of all pictures but the page's own small ones."""


@dataclass(frozen=True)
class Finished:
    """A training that has ended."""

    config: Config
    summary: Summary


@dataclass(frozen=True)
class Store:
    """A server that has the training."""

    uri: str
    client: MlflowClient
    run_id: str


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs = find_browser()
    if programs is None:
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    with open_browser(programs, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def finished(browser: Browser, workplace: Workplace, ray_here: None, server: MlflowServer) -> Finished:
    """A run of two epochs, reported to the server on SQLite."""
    overrides = [
        "name=flight",
        "scaling.num_workers=1",
        "tracking.experiment=drones",
        "tracking.registered_model_name=finder",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace.folder)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        config = with_absolute_paths(load_config(workplace.config_file, overrides))
        return Finished(config, train(config, Console(file=io.StringIO())))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, finished: Finished, server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Each server with the run, whose model is the champion."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "sqlite":
            yield _promoted(server.uri, finished.summary.run_id, patch)
            return
        programs = find_programs()
        if programs is None:
            pytest.skip("Debian's package postgresql is not installed")
        with PostgresServer(programs) as database:
            other = MlflowServer(tmp_path_factory.mktemp("second"), database.uri)
            try:
                other.start()
                yield _promoted(other.uri, _move(finished, other.uri, patch), patch)
            finally:
                other.stop()


def _move(finished: Finished, uri: str, patch: pytest.MonkeyPatch) -> str:
    """Resume a run with another store; return the run's id there."""
    config, summary = finished.config, finished.summary
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    with Display(Console(file=io.StringIO()), []) as display:
        stamp = fingerprint_of(config).with_data(check_inputs(config, display)).stamp
    with Tracker(config, RunFolder(config)) as tracker:
        register(tracker, Path(summary.checkpoint), summary.metrics, config.tracking.registered_model_name, stamp)
    assert tracker.pending == 0
    return tracker.run_id


def _promoted(uri: str, run_id: str, patch: pytest.MonkeyPatch) -> Store:
    patch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "finder version 1 is champion now" in succeed("promote", "finder")
    return Store(uri, MlflowClient(uri), run_id)


@pytest.fixture
def run_page(browser: Browser, store: Store) -> Browser:
    browser.go(f"{store.uri}/#/runs/{store.run_id}")
    browser.see("About this run")
    return browser


def test_the_run_is_found_by_its_name(browser: Browser, store: Store) -> None:
    browser.go(store.uri)
    for name in ("Model training", "Experiments", "drones", "flight"):
        browser.click(name)
    browser.see("Finished", "mrqm train", "data/", "2 epochs with test_resnet", "optim.lr")
    assert store.run_id in browser.driver.current_url


def test_its_curves_are_drawn_as_they_were_reported(run_page: Browser, store: Store) -> None:
    run_page.click("Model metrics")
    for metric in ("coco/AP", "coco/AP50", "train/loss", "train/images_per_second"):
        steps, values = run_page.until(f"{CURVES}['{metric}']", f"curve of {metric}")
        history = store.client.get_metric_history(store.run_id, metric)
        assert len(history) >= 2
        assert sorted(zip(steps, values, strict=True)) == sorted((point.step, point.value) for point in history)


@pytest.mark.parametrize("folder", ["pictures", "queries", None])
def test_its_pictures_open(run_page: Browser, finished: Finished, folder: str | None) -> None:
    file = "epoch_0002.png" if folder else "curves.png"
    run_page.click("Artifacts")
    for name in filter(None, (folder, file)):
        run_page.click(name)
    shown = run_page.until(PICTURES, "picture")
    with Image.open(RunFolder(finished.config).path / (folder or "") / file) as picture:
        assert list(picture.size) in shown


def test_the_model_version_and_its_alias_are_in_the_registry(browser: Browser, store: Store) -> None:
    browser.go(f"{store.uri}/#/models")
    browser.click("Try it now")  # the page's greeting to those who never saw it
    browser.click("finder")
    browser.see("Detectors of small objects", "champion", "protocol.coco")
    browser.click("Version 1")
    browser.see("Trained by run flight", "champion", "checkpoint.sha256", "flight")
    assert browser.driver.current_url.endswith("/models/finder/versions/1")
