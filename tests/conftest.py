"""Tiny models and scenes. Their weights are random everywhere: heads that start at zero would hide most faults."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from pytest_httpserver import HTTPServer
from safetensors.torch import save_file
from torch import Tensor, nn

from mrqm.config import Config, make_config
from mrqm.models.mrqm import MRQM, build_model
from mrqm.models.tokens import TokenGrid, token_grid
from mrqm.structures.annotations import IGNORED_REGION
from pipelines.process.configure import configure_process

configure_process()  # before a test module imports Ray or MLflow
# Hypothesis would fail a test that a busy machine makes slow.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

CLASSES = 3

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "hidden_dim": 32,
        "num_heads": 4,
        "num_points": 2,
        "ffn_dim": 64,
        "refinement": {"blocks": 1, "high_level_updates": 1},
        "num_queries": 20,
        "decoder_layers": 2,
        "denoising": {"max_queries": 12},
    },
    "loss": {"one_to_many": {"max_queries": 16}},
    "data": {"train": "train", "val": "val", "loader_workers": 0},
    "optim": {"lr": 1e-3, "warmup_steps": 0, "backbone_lr_factor": 1.0, "max_grad_norm": 1.0},
    "train": {"epochs": 2, "batch_size": 2},
}

TinyConfig = Callable[..., Config]
MakeModel = Callable[..., MRQM]
MakeTarget = Callable[..., dict[str, Tensor]]
MakeGrid = Callable[..., TokenGrid]
ANY_PATH = re.compile(".*")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by what they have: Ray, else slow tests, else neither.

    The processes that share the files end together only if the last of them are short.
    """
    marked = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("ray", "slow")}
    items.sort(key=lambda item: (item.path not in marked["ray"], item.path not in marked["slow"]))


def shared_data(name: str) -> Path:
    folder = Path(__file__).parents[1].parent / "shared" / "data" / name
    if not folder.exists():
        pytest.skip(f"the real data set {name} is not at hand; it is not part of the project")
    return folder


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    """Address of pytest-httpserver's server: a number, as no test is about how names are resolved."""
    return ("127.0.0.1", 0)


@pytest.fixture
def website(httpserver: HTTPServer) -> HTTPServer:
    """A server of something else, with a page at every path."""
    httpserver.expect_request(ANY_PATH).respond_with_data("<html>Welcome</html>")
    return httpserver


@pytest.fixture(scope="session")
def visdrone_mini() -> Path:
    return shared_data("visdrone_mini")


@pytest.fixture(scope="session")
def visdrone_annotations() -> Path:
    return shared_data("visdrone_annotations.tar.gz")


@pytest.fixture(scope="session")
def coco_river_people() -> Path:
    return shared_data("coco_river_people")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a real disk of so many bytes."""
    folder = tmp_path / "disk"

    def make(size: int) -> Path:
        folder.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if made.returncode:
            pytest.skip(f"only root may mount a disk that can be filled: {made.stderr.decode().strip()}")
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


def randomise(model: nn.Module, std: float = 0.1) -> None:
    """Shake every parameter, so that no head answers zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


@pytest.fixture(scope="session")
def backbone_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest ResNet, whose BatchNorm statistics fit them, in a file."""
    torch.manual_seed(0)
    trunk = timm.create_model("test_resnet", features_only=True, pretrained=False).train()
    randomise(trunk)  # timm starts residual branches at zero, where frozen they would stay
    with torch.no_grad():
        for _ in range(20):
            trunk(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def tiny_config(backbone_weights: Path) -> TinyConfig:
    """A small configuration with a frozen BatchNorm; takes overrides."""
    backbone = {"name": "test_resnet", "weights": str(backbone_weights), "frozen_batch_norm": True}

    def build(*overrides: str) -> Config:
        return make_config({**TINY, "model": {**TINY["model"], "backbone": backbone}}, overrides)

    return build


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """The model of a configuration with random weights, in evaluation mode."""

    def build(config: Config, seed: int = 0) -> MRQM:
        torch.manual_seed(seed)
        model = build_model(config, len(config.data.classes or range(CLASSES)))
        randomise(model)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def make_target() -> MakeTarget:
    """A target of boxes in px (xyxy) of an image of `size` (height, width)."""

    def build(
        boxes: Sequence[Sequence[float]] = (),
        labels: Sequence[int] | None = None,
        *,
        size: tuple[int, int] = (64, 64),
        ignored: Sequence[Sequence[float]] = (),
        image_id: int = 0,
    ) -> dict[str, Tensor]:
        return {
            "boxes": normalised(boxes, size),
            "labels": torch.tensor([i % CLASSES for i in range(len(boxes))] if labels is None else labels).long(),
            "ignore_boxes": normalised(ignored, size),
            "ignore_labels": torch.full((len(ignored),), IGNORED_REGION),
            "image_id": torch.tensor(image_id),
            "orig_size": torch.tensor(size),
            "size": torch.tensor(size),
        }

    return build


def normalised(boxes_xyxy: Sequence[Sequence[float]], size: tuple[int, int]) -> Tensor:
    left, top, right, bottom = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4).unbind(1)
    height, width = size
    return torch.stack(
        [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height], 1
    )


@pytest.fixture(scope="session")
def random_target(make_target: MakeTarget) -> Callable[..., dict[str, Tensor]]:
    """A target of `count` random objects."""

    def build(count: int, seed: int = 0, size: tuple[int, int] = (64, 64), sides: tuple[float, float] = (5, 30)) -> Any:
        rng = np.random.default_rng(seed)
        sides_px = np.exp(rng.uniform(*np.log(sides), (count, 2)))
        corner = rng.uniform(0, 1, (count, 2)) * (np.array(size[::-1]) - sides_px).clip(0)
        return make_target(np.concatenate([corner, corner + sides_px], 1).tolist(), size=size, image_id=seed)

    return build


@pytest.fixture(scope="session")
def make_grid() -> MakeGrid:
    """The token grid of a batch of images of `size` (height, width), multiples of 32."""

    def build(size: tuple[int, int] = (64, 64), batch: int = 1, masks: Tensor | None = None) -> TokenGrid:
        height, width = size
        return token_grid([torch.zeros(batch, 1, height // s, width // s) for s in (4, 8, 16, 32)], masks)

    return build


@pytest.fixture
def squares(tmp_path: Path) -> Callable[..., Path]:
    """Write bright squares on dark noise in VisDrone's layout, the same images for train and val."""

    def write(images: int = 2, side: int = 96, objects: int = 4) -> Path:
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            (tmp_path / split / "images").mkdir(parents=True)
            (tmp_path / split / "annotations").mkdir()
        for index in range(images):
            pixels, rows = rng.integers(0, 60, (side, side, 3), dtype=np.uint8), []
            cells = rng.choice((side // 24) ** 2, objects, replace=False)
            for category, cell in enumerate(cells):
                top, left = 24 * (cell // (side // 24)), 24 * (cell % (side // 24))
                width, height = rng.integers(8, 20, 2)
                pixels[top : top + height, left : left + width] = (240, 230, 60) if category % 2 else (60, 120, 250)
                rows.append(f"{left},{top},{width},{height},1,{category % 2 + 1},0,0")
            for split in ("train", "val"):
                Image.fromarray(pixels).save(tmp_path / split / "images" / f"{index}.png")
                (tmp_path / split / "annotations" / f"{index}.txt").write_text("\n".join(rows))
        return tmp_path

    return write


@pytest.fixture
def overfitting(squares: Callable[..., Path], tiny_config: TinyConfig) -> TinyConfig:
    """A configuration that learns two images by heart; takes overrides."""
    root = squares(images=2, side=96, objects=5)
    return lambda *overrides: tiny_config(
        f"data.root={root}", "data.classes=[blue, yellow]",
        "model.backbone.weights=none", "model.backbone.frozen_batch_norm=false", "model.hidden_dim=64",
        "model.ffn_dim=128", "loss.encoder_supervision=mined", "data.augment.horizontal_flip=0",
        "train.epochs=150", "optim.lr_scheduler=cosine", "optim.ema_decay=0.9", "optim.warmup_steps=10",
        "optim.lr=2e-3", *overrides,
    )  # fmt: skip


class FindsWhite(nn.Module):
    """A stub that knows its answer: one box around all white pixels, class 1, the surer the more it sees."""

    def forward(self, images: Tensor, masks: Tensor | None = None, targets: Any = None) -> dict[str, Tensor]:
        logits, boxes = torch.full((len(images), 1, 2), -9.0), torch.full((len(images), 1, 4), 0.5)
        for index, image in enumerate(images):
            height, width = image.shape[1:]
            if masks is not None:
                height, width = int((~masks[index, :, 0]).sum()), int((~masks[index, 0]).sum())
            rows, columns = (image[0] > 127).nonzero(as_tuple=True)
            if len(rows):
                x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
                boxes[index, 0] = torch.tensor(
                    [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
                )
                logits[index, 0, 1] = 1 + (x1 - x0) * (y1 - y0) / 1000
        return {"pred_logits": logits, "pred_boxes": boxes}


@pytest.fixture
def finds_white() -> nn.Module:
    """The stub as a model."""
    return FindsWhite()
