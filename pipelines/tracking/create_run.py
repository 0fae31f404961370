"""Creation of an MLflow run with its configuration, code version and environment."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from mlflow.entities import Param

from mrqm.config import Config
from mrqm.config.dotted import flatten
from mrqm.config.values import to_plain
from pipelines.tracking.client import Client
from pipelines.tracking.environment import describe_environment, installed_packages
from pipelines.tracking.git import Checkout, find_checkout
from pipelines.tracking.mlflow_names import (
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MLFLOW_GIT_BRANCH,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)


def create_run(client: Client, experiment_id: str, config: Config, parent: str | None, tags: Mapping[str, str]) -> str:
    """Create an MLflow run.

    Args:
        client: client of the MLflow store.
        experiment_id: id of the experiment.
        config: training configuration; every key becomes a parameter, the whole file an artifact.
        parent: id of the parent run, if there is one.
        tags: further tags.

    Returns:
        Id of the run.
    """
    checkout = find_checkout(Path.cwd())
    lineage = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
    own = {MLFLOW_SOURCE_NAME: "mrqm train", "mrqm.config": hashlib.sha256(config.to_yaml().encode()).hexdigest()[:16]}
    all_tags = {**origin_tags(), **own, **(_code_tags(checkout) if checkout else {}), **tags, **lineage}
    run_id: str = client.create_run(experiment_id, run_name=config.name, tags=all_tags).info.run_id
    log_config(client, run_id, config)
    client.log_text(run_id, json.dumps(describe_environment(), indent=2), "environment/environment.json")
    client.log_text(run_id, "\n".join(installed_packages()), "environment/requirements.txt")
    if checkout and checkout.diff:
        client.log_text(run_id, checkout.diff, "code/diff.patch")
    return run_id


def log_config(client: Client, run_id: str, config: Config, keys: tuple[str, ...] = ("",)) -> None:
    """Log a configuration as parameters, and as a file.

    Args:
        client: client of the MLflow store.
        run_id: id of the MLflow run.
        config: configuration of the training or evaluation.
        keys: prefixes of the keys that become parameters.
    """
    params = [Param(key, text) for key, text in to_params(config).items() if key.startswith(keys)]
    for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])
    client.log_text(run_id, config.to_yaml(), "config.yaml")


def to_params(config: Config) -> dict[str, str]:
    """Convert a configuration to MLflow parameters by dotted key, cut to the length that MLflow accepts."""
    return {key: str(value)[:MAX_PARAM_VAL_LENGTH] for key, value in flatten(to_plain(config)).items()}


def origin_tags() -> dict[str, str]:
    """Make the tags for the user who creates a run and for the version of mrqm."""
    return {MLFLOW_SOURCE_TYPE: "PROJECT", MLFLOW_USER: _user(), "mrqm.version": version("mrqm")}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return str(os.getuid())


def _code_tags(checkout: Checkout) -> dict[str, str]:
    changed = {"code.changed": "code/diff.patch"} if checkout.diff else {}
    return {MLFLOW_GIT_COMMIT: checkout.commit, MLFLOW_GIT_BRANCH: checkout.branch, **changed}
