"""Paths of a configuration made absolute."""

from __future__ import annotations

from pathlib import Path

from mrqm.checkpoint.lookup import STARTER
from mrqm.config import Config, make_config
from pipelines.storage.filesystem import MLFLOW_SCHEMES, is_uri


def with_absolute_paths(config: Config) -> Config:
    """Return the configuration with absolute paths, for Ray workers, whose working directory differs."""
    values = config.model_dump()
    values["output_dir"] = config.output_dir if is_uri(config.output_dir) else str(Path(config.output_dir).resolve())
    if isinstance(config.data.root, Path):
        values["data"]["root"] = config.data.root.resolve()
    weights = config.model.backbone.weights
    if weights not in ("none", "hub"):
        values["model"]["backbone"]["weights"] = str(Path(weights).resolve())
    init = config.model.init
    if init is not None and init != STARTER and not is_uri(init) and not init.startswith(MLFLOW_SCHEMES):
        values["model"]["init"] = str(Path(init).resolve())
    if config.train.resume not in ("auto", "never"):
        values["train"]["resume"] = str(Path(config.train.resume).resolve())
    return make_config(values)
