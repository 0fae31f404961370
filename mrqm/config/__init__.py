"""All settings in one validated place: YAML files, dotted overrides and sweeps all use it.

    config = load_config("configs/demo.yaml", ["optim.lr=1e-4", "model.refinement.blocks=2"])

Unknown keys, wrong types and out-of-range values raise a `ConfigError` that names the dotted key, the value and the
allowed values. Modules take parts and plain numbers; only `build_*` functions know a `Config`.
"""

from __future__ import annotations

from mrqm.config.defaults import fill_defaults
from mrqm.config.loading import ConfigError, load_config, make_config
from mrqm.config.roles import has_role, keys_with, renamed_keys
from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.config import Config
from mrqm.config.sections.data import DataConfig, DataFormat, FolderOrUri, TileConfig
from mrqm.config.sections.evaluation import EvaluationConfig
from mrqm.config.sections.loss import LossConfig
from mrqm.config.sections.model import BackboneConfig, ModelConfig
from mrqm.config.sections.scaling import ScalingConfig
from mrqm.config.sections.section import Section
from mrqm.config.sections.tracking import TrackingConfig
from mrqm.config.sections.training import OptimConfig, TrainConfig

__all__ = [
    "BackboneConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DataFormat",
    "EvaluationConfig",
    "FolderOrUri",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RenamedFrom",
    "Role",
    "Roles",
    "ScalingConfig",
    "Section",
    "TileConfig",
    "TrackingConfig",
    "TrainConfig",
    "fill_defaults",
    "has_role",
    "keys_with",
    "load_config",
    "make_config",
    "renamed_keys",
]
