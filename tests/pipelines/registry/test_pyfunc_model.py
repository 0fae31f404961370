"""The inputs of the registered model: supported images, and the refusal of others."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mrqm.inference.detector import load
from pipelines.registry.pyfunc_model import DetectorModel, RefusedImageError, as_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def content(suffix: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, suffix)
    return file.getvalue()


@pytest.fixture(scope="module")
def model(spotter_checkpoint: Path) -> DetectorModel:
    loaded = DetectorModel()
    loaded.load_context(SimpleNamespace(artifacts={"checkpoint": str(spotter_checkpoint)}))
    return loaded


def test_every_form_of_an_image_gives_the_same(model: DetectorModel, spotter_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content())
    wrapped = base64.encodebytes(content()).decode()
    found = model.predict([PIXELS, content(), base64.b64encode(content()).decode(), wrapped, path, PIXELS.tolist()])
    expected = load(spotter_checkpoint)(path)
    for answer in found:
        np.testing.assert_allclose(answer["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-5)
        assert answer["labels"] == expected["labels"].tolist()
        assert answer["class_names"] == [["a", "b", "c"][label] for label in answer["labels"]]


def test_images_of_different_sizes_go_together(model: DetectorModel) -> None:
    assert len(model.predict([PIXELS, PIXELS[:20, :30], PIXELS])) == 3
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"text", "image 1: 4 bytes: the image does not decode"),
        (content("jpeg")[:900], "image 1: 900 bytes: the image does not decode: image file is truncated"),
        ("street.jpg", "image 1: 'street.jpg' is not base64"),
        ("flight/00012", "image 1: 9 bytes: the image does not decode"),
        (Path("street.jpg"), "image 1: street.jpg: no such file"),
        (PIXELS[..., 0], r"image 1: expected a uint8 array \(H, W, 3\), got uint8 \(48, 80\)"),
        (PIXELS / 255, "image 1: expected a uint8 array .* float64"),
        ([[[0, 0, 256]]], "image 1: nested lists .* from 0 to 255"),
        ([[[0.5, 0, 0]]], "image 1: nested lists"),
        ([[[0, 0, 0]], []], "image 1: nested lists"),
        ([], "image 1: nested lists"),
        (7, "image 1: expected the content of an image file .*; got int"),
        (None, "got NoneType"),
        ({"image": "a"}, "got dict"),
    ],
)
def test_what_is_no_image_is_refused_with_its_number_and_a_reason(image: Any, said: str, model: DetectorModel) -> None:
    with pytest.raises(RefusedImageError, match=said) as refusal:
        model.predict([PIXELS, image])
    assert refusal.value.get_http_status_code() == 400


def test_a_path_in_plain_text_names_no_file(tmp_path: Path) -> None:
    """Clients of a server choose the text, and must not choose which of its files are opened."""
    path = tmp_path / "secret.png"
    path.write_bytes(content())
    with pytest.raises(ValueError, match=r"pathlib\.Path"):
        as_picture(str(path))


def test_long_text_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(ValueError, match="not base64") as refusal:
        as_picture("é" * 100_000)
    assert len(str(refusal.value)) < 400


def test_the_refusal_is_what_it_was_whatever_a_server_writes_before_it() -> None:
    refusal = RefusedImageError("image 0: no")
    refusal.message = f"Failed to predict data '{'x' * 1000}'. \nError: image 0: no"
    assert json.loads(refusal.serialize_as_json())["message"] == "image 0: no"
