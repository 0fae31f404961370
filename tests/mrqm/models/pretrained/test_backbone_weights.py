"""Backbones inside the files of detectors: found by names and shapes, with equal features, and without running code."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from mrqm.config import BackboneConfig, ConfigError
from mrqm.models.backbone import Backbone, build_backbone

State = Mapping[str, Tensor]
IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """The model in evaluation mode with random parameters and statistics, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if "running_var" in name else (noise - 0.5) * 0.2 + (value.ndim == 1) * 0.5)
    return model.eval()


def load(name: str, path: Path) -> Backbone:
    config = BackboneConfig(name=name, weights=str(path), frozen_batch_norm=False)
    return build_backbone(config, channels_last=False).eval()


def same_features(expected: list[Tensor], name: str, path: Path) -> str:
    """Compare the features of the loaded backbone; return what was said about the file."""
    backbone = load(name, path)
    with torch.inference_mode():
        found = backbone.trunk(IMAGE)[-len(expected) :]
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-2
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1)
    return backbone.origin


def timm_features(name: str) -> tuple[nn.Module, list[Tensor]]:
    model = shaken(timm.create_model(name, pretrained=False))
    with torch.inference_mode():
        trunk = timm.create_model(name, features_only=True, pretrained=False).eval()
        missing = trunk.load_state_dict(
            {key: model.state_dict()[re.sub(r"^stages_(\d)", r"stages.\1", key)] for key in trunk.state_dict()}
        )
        assert not missing.missing_keys
        return model, trunk(IMAGE)[-4:]


def renamed(state: State, *rules: tuple[str, str | Callable[[re.Match[str]], str]], prefix: str) -> dict[str, Tensor]:
    """Write timm's names as another library does."""
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[prefix + name] = tensor.contiguous()
    return result


def shifted(text: str, by: int) -> Callable[[re.Match[str]], str]:
    """Fill a text with a match's groups, the first as another number."""
    return lambda match: text.format(int(match[1]) + by, *match.groups()[1:])


def test_a_detector_of_torchvision(tmp_path: Path) -> None:
    trunk = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    detector = shaken(FasterRCNN(trunk, num_classes=3))
    torch.save({"model": detector.state_dict(), "epoch": 3}, tmp_path / "frcnn.pth")
    with torch.inference_mode():
        expected = list(detector.backbone.body(IMAGE).values())
    said = same_features(expected, "resnet18", tmp_path / "frcnn.pth")
    assert said.startswith("100 tensors in frcnn.pth, names of timm and torchvision, prefix ")
    assert "prefix model.backbone.body., " in said and said.endswith(" other tensors not used")


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda state: {"meta": {"CLASSES": ("a", "b")}, "state_dict": state}, "backbone."),  # mmdetection, Co-DETR
        (lambda state: {"model": state, "epoch": 3, "args": None}, "backbone.0.body."),  # DETR, DINO
        (lambda state: state, "model.backbone.conv_encoder.model."),  # transformers with a backbone of timm
    ],
)
def test_names_of_timm_after_a_prefix(wrap: Any, prefix: str, tmp_path: Path) -> None:
    model, expected = timm_features("test_resnet")
    state = renamed(model.state_dict(), prefix=prefix) | {"bbox_head.fc.weight": torch.zeros(3)}
    torch.save(wrap(state), tmp_path / "detector.pth")
    assert prefix in same_features(expected, "test_resnet", tmp_path / "detector.pth")


DETECTRON2 = (
    (r"^bn1\.", "stem.conv1.norm."), (r"^conv1\.", "stem.conv1."), (r"^layer(\d)", shifted("res{}", 1)),
    (r"\.bn(\d)\.", r".conv\1.norm."), (r"downsample\.0", "shortcut"), (r"downsample\.1", "shortcut.norm"),
)  # fmt: skip
TRANSFORMERS = (
    (r"^conv1\.", "embedder.embedder.convolution."), (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d)", shifted("encoder.stages.{}.layers.{}", -1)),
    (r"\.conv(\d)", shifted(".layer.{}.convolution", -1)), (r"\.bn(\d)", shifted(".layer.{}.normalization", -1)),
    (r"downsample\.0", "shortcut.convolution"), (r"downsample\.1", "shortcut.normalization"),
)  # fmt: skip
TRANSFORMERS_RT_DETR = (
    (r"^conv1\.0\.", "embedder.embedder.0.convolution."), (r"^conv1\.1\.", "embedder.embedder.0.normalization."),
    (r"^conv1\.3\.", "embedder.embedder.1.convolution."), (r"^conv1\.4\.", "embedder.embedder.1.normalization."),
    (r"^conv1\.6\.", "embedder.embedder.2.convolution."), (r"^bn1\.", "embedder.embedder.2.normalization."),
    (r"^(layer1\.0\.)downsample\.1", r"\1shortcut.convolution"),
    (r"^(layer1\.0\.)downsample\.2", r"\1shortcut.normalization"),
    (r"downsample\.1", "shortcut.1.convolution"), (r"downsample\.2", "shortcut.1.normalization"),
    (r"^layer(\d)\.(\d)", shifted("encoder.stages.{}.layers.{}", -1)),
    (r"\.conv(\d)", shifted(".layer.{}.convolution", -1)), (r"\.bn(\d)", shifted(".layer.{}.normalization", -1)),
)  # fmt: skip
PRESNET = (
    (r"^conv1\.0\.", "conv1.conv1_1.conv."), (r"^conv1\.1\.", "conv1.conv1_1.norm."),
    (r"^conv1\.3\.", "conv1.conv1_2.conv."), (r"^conv1\.4\.", "conv1.conv1_2.norm."),
    (r"^conv1\.6\.", "conv1.conv1_3.conv."), (r"^bn1\.", "conv1.conv1_3.norm."),
    (r"^(layer1\.0\.)downsample\.1", r"\1short.conv"), (r"^(layer1\.0\.)downsample\.2", r"\1short.norm"),
    (r"downsample\.1", "short.conv.conv"), (r"downsample\.2", "short.conv.norm"),
    (r"\.conv(\d)\.", lambda match: f".branch2{'abc'[int(match[1]) - 1]}.conv."),
    (r"\.bn(\d)\.", lambda match: f".branch2{'abc'[int(match[1]) - 1]}.norm."),
    (r"^layer(\d)\.(\d)", shifted("res_layers.{}.blocks.{}", -1)),
)  # fmt: skip
TRANSFORMERS_HGNET = (
    (r"\.conv\.", ".convolution."), (r"\.bn\.", ".normalization."), (r"^stem\.", "embedder."),
    (r"^stages\.", "encoder.stages."),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rules", "prefix", "library"),
    [
        ("resnet18", DETECTRON2, "backbone.bottom_up.", "detectron2"),
        ("resnet18", TRANSFORMERS, "model.backbone.conv_encoder.model.", "transformers (ResNet)"),
        ("resnet26", TRANSFORMERS, "backbone.model.", "transformers (ResNet)"),
        ("resnet18d", TRANSFORMERS_RT_DETR, "model.backbone.model.", "transformers (RT-DETR)"),
        ("resnet26d", PRESNET, "backbone.", "RT-DETR (PResNet)"),
        ("hgnetv2_b0", TRANSFORMERS_HGNET, "model.backbone.model.", "transformers (HGNetV2)"),
    ],
)
def test_names_of_other_libraries(name: str, rules: Any, prefix: str, library: str, tmp_path: Path) -> None:
    model, expected = timm_features(name)
    state = renamed(model.state_dict(), *rules, prefix=prefix)
    assert not any(key.endswith("layer1.0.conv1.weight") for key in state)
    save_file(state, tmp_path / "model.safetensors")
    said = same_features(expected, name, tmp_path / "model.safetensors")
    assert f"names of {library}, prefix {prefix}" in said


def test_the_averaged_weights_of_d_fine_are_preferred(tmp_path: Path) -> None:
    model, expected = timm_features("hgnetv2_b0")
    other = timm.create_model("hgnetv2_b0", pretrained=False)
    checkpoint = {
        "date": "2024-10-10",
        "model": renamed(other.state_dict(), prefix="backbone."),
        "ema": {"module": renamed(model.state_dict(), prefix="backbone."), "updates": 10},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
    }
    torch.save(checkpoint, tmp_path / "dfine.pth")
    assert "prefix ema.module.backbone." in same_features(expected, "hgnetv2_b0", tmp_path / "dfine.pth")


def test_an_array_file_of_detectron2s_zoo(tmp_path: Path) -> None:
    model, expected = timm_features("resnet18")
    state = renamed(model.state_dict(), *DETECTRON2, prefix="backbone.bottom_up.")
    zoo = {"model": {key: value.numpy() for key, value in state.items()}, "__author__": "zoo"}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(zoo, protocol=2))
    assert "names of detectron2" in same_features(expected, "resnet18", tmp_path / "model_final.pkl")


class Malicious:
    """Object that writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class History:
    """Object of a training's log, as mmengine keeps beside the weights."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)
        self.best = np.float64(0.5)


def test_objects_beside_the_tensors_are_passed_over(tmp_path: Path) -> None:
    model, expected = timm_features("test_resnet")
    state = renamed(model.state_dict(), prefix="backbone.")
    torch.save({"state_dict": state, "message_hub": {"loss": History()}}, tmp_path / "detector.pth")
    same_features(expected, "test_resnet", tmp_path / "detector.pth")


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_no_code_runs(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"detector.{suffix}", tmp_path / "executed"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}, "hook": Malicious(target)}, path)
    with pytest.raises(ConfigError, match=r"it holds objects beside tensors that cannot be passed over: posix\.system"):
        load("resnet18", path)
    assert not target.exists()


def test_a_plain_pickle_of_more_than_arrays_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "zoo.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"model": {"weight": np.zeros(3)}, "hook": Malicious(target)}))
    with pytest.raises(ConfigError, match=r"zoo\.pkl.*which is not an array"):
        load("resnet18", path)
    assert not target.exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    model, _ = timm_features("resnet18")
    state = renamed(model.state_dict(), *DETECTRON2, prefix="backbone.")
    del state["backbone.res5.1.conv2.weight"]
    state["backbone.res4.0.conv1.weight"] = torch.zeros(7, 128, 3, 3)
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ConfigError) as refused:
        load("resnet18", tmp_path / "part.pth")
    assert str(refused.value) == (
        f"model.backbone.weights={tmp_path}/part.pth: 2 of 100 tensors do not fit (names of detectron2, prefix "
        "backbone.): layer3.0.conv1.weight: shape (7, 128, 3, 3) instead of (256, 128, 3, 3); layer4.1.conv2.weight: "
        "missing; choose the model.backbone.name that the file was made with"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "damaged, or not a file of weights"),
        (b"", "damaged, or not a file of weights"),
        (pickle.dumps([1, 2]), "damaged, or not a file of weights"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "bin", "pkl"])
def test_what_is_no_file_of_weights_is_refused(content: bytes, reason: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"model\.backbone\.weights={re.escape(str(path))}: "):
        load("resnet18", path)


def test_a_file_of_something_else_shows_its_names(tmp_path: Path) -> None:
    save_file({"decoder.embed": torch.zeros(3)}, tmp_path / "text.safetensors")
    with pytest.raises(ConfigError, match=r"100 of 100 tensors do not fit: not one has a name of the backbone"):
        load("resnet18", tmp_path / "text.safetensors")
