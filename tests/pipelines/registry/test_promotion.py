"""Promotion and rollback of versions, against a real SQLite store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ..registered import refuse, registry, succeed

AddVersion = Callable[..., str]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("away_from_the_run")]


@pytest.fixture
def every_model_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the smoke test, which takes seconds."""
    monkeypatch.setattr("pipelines.registry.promotion.try_model", lambda *_: None)


def holder(client: MlflowClient, version: str, alias: str = "champion") -> str:
    """Return the number of the version of the same model that has the alias."""
    return str(client.get_model_version_by_alias(version.partition("/")[0], alias).version)


def test_the_first_and_then_a_better_version_become_champion(add_version: AddVersion, client: MlflowClient) -> None:
    first, second = add_version(0.30), add_version(0.31)
    assert f"{first.replace('/', ' version ')} is champion now: 0.3000 coco/AP" in succeed("promote", first)
    assert "instead of version 1" in succeed("promote", second)
    assert holder(client, first) == "2"


@pytest.mark.usefixtures("every_model_works")
@pytest.mark.parametrize(
    ("champion", "candidate", "margin", "passes"),
    [
        (0.56, 0.57, "0.01", True),  # 0.57 - 0.56 is below 0.01 in binary
        (0.56, 0.5699, "0.01", False),
        (0.56, 0.56, "0", True),
        (0.56, 0.5599, "0", False),
        (0.56, 0.559999999, "0", False),  # no digit of a figure is rounded away
    ],
)
def test_a_candidate_passes_if_it_is_better_by_the_margin(
    champion: float, candidate: float, margin: str, passes: bool, add_version: AddVersion, client: MlflowClient
) -> None:
    first, second = add_version(champion), add_version(candidate)
    succeed("promote", first)
    if passes:
        succeed("promote", second, "--margin", margin)
    else:
        output = refuse("promote", second, "--margin", margin)
        assert f"{candidate:.4f}" in output
        assert f": {Decimal(str(candidate)) - Decimal(str(champion)):+f}, and at least" in output
    assert holder(client, first) == ("2" if passes else "1")


@pytest.mark.usefixtures("every_model_works")
@pytest.mark.parametrize(
    ("tags", "options", "named"),
    [
        ({"coco/AP": None}, [], "it has no coco/AP; it has coco/AP50"),
        ({"coco/AP": "nan"}, [], "it has no coco/AP;"),
        ({}, ["--metric", "visdrone/AP"], "it has no visdrone/AP; it has coco/AP, coco/AP50"),
        ({"data.digest": None}, [], "was measured under unknown data.digest"),
        ({"data.digest": "cd34" * 16}, [], "data.digest: cd34cd34cd34 (version 2), ab12ab12ab12 (version 1)"),
        ({"protocol.coco": "2"}, [], "protocol.coco: 2 (version 2), 1 maxDets=1,10,100 (version 1)"),
        ({"evaluation.view": "tiles size=64"}, [], "evaluation.view: tiles size=64 (version 2), full (version 1)"),
        ({"coco/AP_small": "0.5"}, ["--metric", "coco/AP_small"], "version 1, has no coco/AP_small"),
    ],
)
def test_a_better_figure_that_proves_nothing_does_not_pass(
    tags: Mapping[str, str | None], options: list[str], named: str, add_version: AddVersion, client: MlflowClient
) -> None:
    first, second = add_version(0.3), add_version(**{"coco/AP": "0.9000", **tags})
    succeed("promote", first)
    assert named in refuse("promote", second, *options)
    assert holder(client, first) == "1"


@pytest.mark.usefixtures("every_model_works")
@pytest.mark.parametrize("margin", ["nan", "inf"])
def test_a_margin_that_is_no_number_is_refused(margin: str, add_version: AddVersion) -> None:
    assert f"--margin {margin}" in refuse("promote", add_version(0.3), "--margin", margin)


@pytest.mark.usefixtures("every_model_works")
def test_a_champion_is_not_promoted_again(add_version: AddVersion) -> None:
    version = add_version()
    succeed("promote", version)
    assert "is already champion" in refuse("promote", version)


def test_a_model_that_does_not_load_does_not_pass(
    add_version: AddVersion, client: MlflowClient, model_files: Path
) -> None:
    (model_files / "artifacts/checkpoint/model.safetensors").write_bytes(b"no weights")
    version = add_version(source=str(model_files))
    output = refuse("promote", version)
    assert "does not load and predict" in output and "model.safetensors" in output
    assert client.get_registered_model(version.partition("/")[0]).aliases == {}


@pytest.mark.usefixtures("every_model_works")
def test_rolling_back_goes_back_step_by_step(add_version: AddVersion, client: MlflowClient) -> None:
    versions = [add_version(ap) for ap in (0.1, 0.2, 0.3)]
    name = versions[0].partition("/")[0]
    for version in versions:
        succeed("promote", version)
    assert f"{name} version 2 is champion again, instead of version 3" in succeed("rollback", name)
    succeed("promote", versions[2])
    for expected in ("2", "1"):
        succeed("rollback", name)
        assert holder(client, name) == expected
    assert "version 1 is the first champion" in refuse("rollback", name)
    assert holder(client, name) == "1"


@pytest.mark.usefixtures("every_model_works")
def test_aliases_remember_their_own_past(add_version: AddVersion, client: MlflowClient) -> None:
    first, second = add_version(0.1), add_version(0.2)
    succeed("promote", first, "--alias", "night")
    succeed("promote", first)
    succeed("promote", second, "--alias", "night")
    name = first.partition("/")[0]
    assert "first champion" in refuse("rollback", name)
    succeed("rollback", name, "--alias", "night")
    assert (holder(client, name), holder(client, name, "night")) == ("1", "1")


@pytest.mark.usefixtures("every_model_works")
def test_a_former_version_that_is_deleted_is_named(add_version: AddVersion, client: MlflowClient) -> None:
    first, second = add_version(0.1), add_version(0.2)
    name = first.partition("/")[0]
    succeed("promote", first)
    succeed("promote", second)
    client.delete_model_version(name, "1")
    assert "version 1, the former champion, is deleted" in refuse("rollback", name)
    assert holder(client, name) == "2"


@pytest.mark.usefixtures("every_model_works")
def test_a_promotion_that_was_cut_off_is_repeated_without_a_trace(
    add_version: AddVersion, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add_version(0.1), add_version(0.2)
    name = first.partition("/")[0]
    succeed("promote", first)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", interrupted)
        assert registry("promote", second)[0] != 0
    succeed("promote", second)
    succeed("rollback", name)
    assert "first champion" in refuse("rollback", name)


def test_a_candidate_is_measured_by_what_became_champion_while_it_was_tried(
    add_version: AddVersion, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [add_version(ap) for ap in (0.1, 0.2, 0.3)]
    name = versions[0].partition("/")[0]
    monkeypatch.setattr("pipelines.registry.promotion.try_model", lambda *_: None)
    succeed("promote", versions[0])

    def overtaken(*_: object) -> None:
        client.set_registered_model_alias(name, "champion", "3")

    monkeypatch.setattr("pipelines.registry.promotion.try_model", overtaken)
    assert "that of the champion, version 3, 0.3000" in refuse("promote", versions[1])
    assert holder(client, name) == "3"


@pytest.mark.usefixtures("every_model_works")
def test_a_promotion_that_is_overtaken_says_who_won(
    add_version: AddVersion, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add_version(0.1), add_version(0.2)
    name = first.partition("/")[0]
    write = MlflowClient.set_registered_model_alias

    def overtaken(self: MlflowClient, name: str, alias: str, version: str) -> None:
        write(self, name, alias, version)
        write(self, name, alias, "2")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", overtaken)
    assert "another process made version 2 champion" in refuse("promote", first)
    assert holder(client, name) == second.partition("/")[2]


def test_rolling_back_an_alias_that_does_not_exist_says_so() -> None:
    assert "spotter has no alias 'champion'; it has none" in refuse("rollback", "spotter")
