"""The adapter of Ray's trainer; `test_survival` and `test_nodes` test its end at Ctrl-C."""

import pytest
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from pipelines.compute.torch_trainer import InterruptibleTrainer

pytestmark = pytest.mark.ray


def callbacks_of(trainer: TorchTrainer) -> set[str]:
    return {type(callback).__name__ for callback in trainer._create_default_callbacks()}


def test_nobody_is_started_for_data_sets_that_are_not_there_nor_to_ask_a_dashboard_that_is_not(ray_here: None) -> None:
    scaling = ScalingConfig(num_workers=1)
    idle = {"PlacementGroupCleanerCallback", "DatasetsCallback"}
    usual = callbacks_of(TorchTrainer(print, scaling_config=scaling))
    assert usual - callbacks_of(InterruptibleTrainer(print, scaling_config=scaling)) == idle
