"""Trained model as a function: every kind of image, windows of large ones, and arguments that are no image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import mrqm
from mrqm.checkpoint.folder import save_checkpoint
from mrqm.config import Config
from mrqm.data.images.decoding import decode
from mrqm.inference.detector import Detector
from mrqm.structures.annotations import xywh_to_xyxy
from mrqm.structures.detections import Detections

CPU = torch.device("cpu")


def picture(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw a white box (xyxy px) on black."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


@pytest.fixture
def make_detector(tiny_config: Any, finds_white: nn.Module) -> Any:
    def build(*overrides: str) -> Detector:
        config: Config = tiny_config("data.classes=[a, b]", *overrides)
        return Detector(finds_white, config, CPU)  # type: ignore[arg-type]

    return build


@pytest.fixture
def make_real_detector(tiny_config: Any, make_model: Any) -> Any:
    def build(*overrides: str) -> Detector:
        config: Config = tiny_config("data.classes=[a, b, c]", *overrides)
        return Detector(make_model(config), config, CPU)

    return build


def confident(detections: dict[str, Tensor]) -> Tensor:
    return detections["boxes"][detections["scores"] > 0.5]


def test_every_kind_of_image_gives_the_same(make_detector: Any, tmp_path: Path) -> None:
    detector, array = make_detector(), picture((50, 70), (10, 20, 30, 28))
    Image.fromarray(array).save(tmp_path / "a.png")
    kinds = [array, torch.from_numpy(array).permute(2, 0, 1), Image.fromarray(array), tmp_path / "a.png"]
    for found in [detector(kind) for kind in [*kinds, str(tmp_path / "a.png")]]:
        assert confident(found).tolist() == [pytest.approx([10, 20, 30, 28], abs=1e-3)]
        assert found["labels"][0] == 1


def test_other_color_modes_are_read_as_rgb(make_detector: Any) -> None:
    grey = Image.fromarray(picture((50, 70), (10, 20, 30, 28))).convert("L")
    assert confident(make_detector()(grey)).tolist() == [pytest.approx([10, 20, 30, 28], abs=1e-3)]


@pytest.mark.parametrize("box", [(5, 5, 15, 25), (180, 130, 200, 150), (90, 70, 100, 78), (130, 20, 144, 30)])
def test_objects_of_large_images_land_in_the_right_place(box: tuple[int, int, int, int], make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 32}", "evaluation.batch_size=3")
    found = confident(detector(picture((150, 200), box)))
    assert any(torch.allclose(row, torch.tensor(box).float(), atol=1e-2) for row in found)


def test_an_object_seen_in_two_windows_is_found_once(make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 32}")
    assert len(confident(detector(picture((64, 96), (36, 10, 56, 30))))) == 1


def test_boxes_are_in_px_of_the_given_image_whatever_the_scale(make_detector: Any) -> None:
    for overrides in (
        ["data.scale=0.5"],
        ["data.max_side=50"],
        ["data.scale=2.0", "data.tile={size: 128, overlap: 64}"],
    ):
        found = confident(make_detector(*overrides)(picture((80, 100), (20, 40, 44, 60))))
        assert found[0].tolist() == pytest.approx([20, 40, 44, 60], abs=2.1), overrides


@pytest.mark.parametrize("scale", [0.37, 1.0, 1.6])
def test_windows_are_resized_as_parts_of_the_whole(scale: float, make_detector: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (97, 143, 3), dtype=np.uint8)
    image = make_detector(f"data.scale={scale}", "data.tile={size: 32, overlap: 9}").open(pixels)
    height, width = image.scaled_size
    whole = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    for window in image.windows:
        expected = whole[window.top : window.top + window.height, window.left : window.left + window.width]
        # Pillow rounds its fixed-point weights, which a window's offset may tip by one step.
        assert np.abs(image.cut(window).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_a_file_is_decoded_as_for_training(make_detector: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    image = make_detector("data.scale=0.4").open(tmp_path / "a.jpg")
    assert image.size == (90, 140) and image.scaled_size == (36, 56)
    np.testing.assert_array_equal(image.pixels, decode(tmp_path / "a.jpg", (36, 56)))
    enlarged = make_detector("data.scale=3.0").open(tmp_path / "a.jpg")
    assert enlarged.pixels.shape == (90, 140, 3), "never decoded larger than the file"


def test_slices_are_the_whole_when_one_window_suffices(make_real_detector: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 64, 3), dtype=np.uint8)
    sliced = make_real_detector("data.tile={size: 64, overlap: 16}")(image)
    full = make_real_detector()(image)
    assert all(torch.equal(sliced[name], full[name]) for name in full)


def test_the_full_view_looks_past_the_tiles(make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 16}", "evaluation.view=full", "data.max_side=100")
    image = detector.open(np.zeros((150, 200, 3), dtype=np.uint8))
    assert image.scaled_size == (75, 100)
    assert [tuple(window) for window in image.windows] == [(0, 0, 100, 75)]


@pytest.mark.parametrize("batch_size", [1, pytest.param(3, marks=pytest.mark.slow), 8])
def test_batching_over_windows_and_images_changes_nothing(batch_size: int, make_real_detector: Any) -> None:
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (150, 100), (40, 64), (64, 64), (64, 110), (30, 30)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    tile = "data.tile={size: 64, overlap: 16}"
    many = make_real_detector(tile, f"evaluation.batch_size={batch_size}").detect_many(images)
    alone = make_real_detector(tile, "evaluation.batch_size=1")
    for image, found in zip(images, many, strict=True):
        expected = alone(image)
        assert len(found["scores"]) == len(expected["scores"])
        torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-3, atol=1e-4)


def test_images_come_back_in_order_and_small_ones_share_batches(make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 16}", "evaluation.batch_size=4")
    batches: list[int] = []
    detector.model.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    boxes = [(5 * i, 10, 5 * i + 20, 30) for i in range(6)]
    sizes = [(60, 60), (60, 60), (60, 60), (200, 200), (60, 60), (60, 60)]
    found = list(detector.detect_many(picture(size, box) for size, box in zip(sizes, boxes, strict=True)))
    assert [confident(f)[0].round().tolist() for f in found] == [list(box) for box in boxes]
    # Three small ones wait for the windows of the large one, whose rest waits for nobody.
    assert batches == [4, 4, 4, 4, 3, 2]


def test_images_are_opened_no_earlier_than_a_batch_needs(make_detector: Any) -> None:
    opened = []

    def images() -> Any:
        for index in range(4):
            opened.append(index)
            yield picture((60, 60), (10, 10, 20, 20))

    stream = make_detector("evaluation.batch_size=2").detect_many(images())
    next(stream)
    assert opened == [0, 1]


def test_it_is_told_how_much_of_an_image_was_predicted(make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 0}", "evaluation.batch_size=3")
    shares: list[float] = []
    images = [detector.open(picture((128, 256), (10, 10, 20, 20)))]  # 8 windows
    list(detector.detect_open(images, shares.append))
    assert shares == [3 / 8, 6 / 8]


def test_the_way_of_merging_is_the_configurations(make_detector: Any) -> None:
    image = picture((64, 96), (36, 10, 60, 30))
    counts = {
        overrides: len(confident(make_detector("data.tile={size: 64, overlap: 32}", *overrides)(image)))
        for overrides in [(), ("evaluation.merge=wbf",), ("evaluation.merge_iou=1.0",)]
    }
    assert list(counts.values()) == [1, 1, 2]


def test_detections_turn_into_those_that_are_scored(make_detector: Any) -> None:
    found = make_detector()(picture((50, 70), (10, 20, 30, 28)))
    numpy = Detections.from_tensors(found)
    assert numpy.boxes_xywh.dtype == numpy.scores.dtype == np.float64 and numpy.labels.dtype == np.int64
    np.testing.assert_allclose(xywh_to_xyxy(numpy.boxes_xywh), found["boxes"].numpy())


def test_the_number_of_detections_is_bounded_in_each_window_and_not_in_an_image(make_detector: Any) -> None:
    detector = make_detector("data.tile={size: 64, overlap: 0}", "evaluation.max_detections=1")
    assert len(detector(picture((64, 64), (0, 0, 64, 64)))["scores"]) == 1
    assert len(detector(picture((256, 256), (0, 0, 256, 256)))["scores"]) == 16


def test_an_image_has_a_limit_of_its_own_that_says_when_it_cuts(
    make_detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture((256, 256), (0, 0, 256, 256))
    tile = "data.tile={size: 64, overlap: 0}"
    every = make_detector(tile)(image)
    assert not caplog.messages
    most = len(every["scores"]) - 5
    best = make_detector(tile, f"evaluation.max_detections_per_image={most}")(image)
    assert all(torch.equal(best[name], every[name][:most]) for name in every)
    assert "5 more detections in an image than evaluation.max_detections_per_image" in caplog.text


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), dtype=np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"\(4, 4, 3\)"),
        (torch.zeros(3, 4, 4), "float32"),
    ],
)
def test_what_is_no_image_is_refused_by_type_and_shape(image: Any, said: str, make_detector: Any) -> None:
    with pytest.raises(ValueError, match=rf"expected a uint8 .*{said}"):
        make_detector()(image)


@pytest.mark.parametrize("image", [None, 3, [[0]]])
def test_what_is_not_even_an_array_is_a_value_error(image: Any, make_detector: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make_detector()(image)


def test_files_that_are_no_image_are_named(make_detector: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no pixels")
    for name in ("text.png", "gone.png"):
        with pytest.raises(ValueError, match=rf"{name}: (no such file|the image does not decode)"):
            make_detector()(tmp_path / name)


def test_a_cut_off_file_is_named(make_detector: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.jpg: the image does not decode"):
        make_detector()(path)


def test_a_checkpoint_becomes_a_detector(tiny_config: Any, make_model: Any, tmp_path: Path) -> None:
    config = tiny_config("data.classes=[a, b, c]")
    save_checkpoint(tmp_path / "checkpoint", make_model(config).state_dict(), {}, config, {})
    detector = mrqm.load(tmp_path / "checkpoint")
    found = detector(picture((50, 70), (10, 20, 30, 28)))
    assert detector.classes == ("a", "b", "c")
    assert found["boxes"].shape == (60, 4) and (found["scores"].diff() <= 0).all()
