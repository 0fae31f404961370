"""Backbone: strides, weights, frozen statistics, and clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mrqm.config import BackboneConfig, ConfigError
from mrqm.models.backbone import STRIDES, Backbone, build_backbone, mask_at


def build(name: str = "test_resnet", weights: str = "none", frozen: bool = False) -> Any:
    config = BackboneConfig(name=name, weights=weights, frozen_batch_norm=frozen)
    return build_backbone(config, channels_last=True)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto"])
def test_features_have_the_strides_and_channels_they_say(name: str) -> None:
    backbone = build(name)
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96), None)
    shapes = [(1, channels, 64 // s, 96 // s) for channels, s in zip(backbone.channels, STRIDES, strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes


def test_images_are_normalised_as_the_weights_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build("resnet10t").eval()
    images, seen = torch.rand(1, 3, 64, 64), []
    backbone.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    backbone(images, None)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(seen[0], (images - mean) / std)


def test_a_cell_is_padding_when_its_first_pixel_is() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[:, :, 5:] = True
    assert mask_at(masks, (2, 2))[0].tolist() == [[False, False]] * 2
    masks[:, :, 4:] = True
    assert mask_at(masks, (2, 2))[0].tolist() == [[False, True]] * 2


def test_local_weights_are_loaded(backbone_weights: Path) -> None:
    state = build(weights=str(backbone_weights)).trunk.state_dict()
    stored = load_file(backbone_weights)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], value) for name, value in stored.items())


def test_frozen_batch_norm_stays_as_loaded_while_training(backbone_weights: Path) -> None:
    backbone = build(weights=str(backbone_weights), frozen=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items() if "bn" in name}
    images = torch.rand(2, 3, 64, 64)
    together = backbone(images, None)
    sum(feature.sum() for feature in together).backward()
    assert before and all(torch.equal(backbone.state_dict()[name], value) for name, value in before.items())
    assert not any("bn" in name for name, _ in backbone.named_parameters())
    alone = backbone(images[:1], None)
    torch.testing.assert_close(alone[-1][0], together[-1][0], rtol=1e-4, atol=1e-5)


def test_an_unfrozen_batch_norm_learns_its_statistics() -> None:
    backbone = build().train()
    before = {name: value.clone() for name, value in backbone.named_buffers() if name.endswith("running_mean")}
    backbone(torch.rand(2, 3, 64, 64), None)
    assert all(not torch.equal(dict(backbone.named_buffers())[name], value) for name, value in before.items())


def test_frozen_stages_are_all_that_their_features_depend_on(backbone_weights: Path) -> None:
    config = BackboneConfig(name="test_resnet", weights=str(backbone_weights), frozen_stages=1)
    backbone = build_backbone(config, channels_last=True)
    learning = {name.split(".")[1] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    frozen = {name.split(".")[1] for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert learning == {"layer2", "layer3", "layer4"}


def test_an_unknown_model_is_refused_with_similar_names() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.backbone\.name=resnet51: timm has no such model; similar: .*resnet50"
    ):
        build("resnet51")


def test_a_model_without_the_strides_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone\.name.*strides 4, 8, 16, 32"):
        build("vit_tiny_patch16_224")


def test_weights_that_do_not_fit_are_named(backbone_weights: Path, tmp_path: Path) -> None:
    weights = load_file(backbone_weights)
    del weights["layer1.0.conv1.weight"]
    weights["layer2.0.conv1.weight"] = torch.zeros(3, 3)
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError) as refused:
        build(weights=str(tmp_path / "other.safetensors"))
    for said in ("other.safetensors: 2 of", "layer1.0.conv1.weight: missing", "layer2.0.conv1.weight: shape (3, 3)"):
        assert said in str(refused.value)


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"not tensors", "not a safetensors file")])
def test_a_weights_file_that_is_none_is_named(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"model\.backbone\.weights=.*bad\.safetensors: {said}"):
        build(weights=str(path))


def test_offline_the_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.backbone\.weights=hub.*resnet18.*weights=PATH\.safetensors"):
        build("resnet18", "hub")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "Input height .64. doesn't match model .224."),
        ("maxvit_nano_rw_256", "must be divisible by window"),
        ("hiera_tiny_224", "The size of tensor"),
        ("inception_v4", "Kernel size"),
    ],
)
def test_a_trunk_that_does_not_take_images_of_any_size_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: it does not take images of any size.*{reason}") as caught:
        build(name)
    assert "\n" not in str(caught.value) and "resnet50" in str(caught.value)


def test_features_in_another_layout_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def last(self: Backbone, images: Tensor, masks: Tensor | None) -> list[Tensor]:
        return [feature.permute(0, 2, 3, 1) for feature in forward(self, images, masks)]

    forward = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", last)
    with pytest.raises(ConfigError, match=r"features of shape \[\(1, 16, 24, \d+\)"):
        build()


def test_a_trunk_is_tried_without_a_trace() -> None:
    torch.manual_seed(0)
    tried = build()
    torch.manual_seed(0)
    created = timm.create_model("test_resnet", features_only=True)
    assert tried.training
    for name, value in created.state_dict().items():
        torch.testing.assert_close(tried.trunk.state_dict()[name], value, rtol=0, atol=0)
