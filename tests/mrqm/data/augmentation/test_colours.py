from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from mrqm.data.augmentation.colours import BLUR_SIGMA, NOISE_SIGMA, ColorJitter, Degradation

RNG = np.random.default_rng
SMOOTH = torch.from_numpy(
    np.stack([np.add.outer(np.arange(48), np.arange(64) * factor) % 200 for factor in (1, 2, 3)]).astype(np.uint8)
)


def degraded(seed: int = 0, **probabilities: float) -> Tensor:
    return Degradation(**probabilities).apply(SMOOTH, RNG(seed))


def test_colours_are_changed_as_torchvision_does() -> None:
    jittered = ColorJitter(0.3).apply(SMOOTH, RNG(5))
    brightness, contrast, saturation = 1 + 0.3 * RNG(5).uniform(-1, 1, 3)
    expected = F.adjust_contrast(F.adjust_brightness(SMOOTH, brightness), contrast)
    assert torch.equal(jittered, F.adjust_saturation(expected, saturation))
    assert not torch.equal(jittered, SMOOTH)


def test_grey_images_have_three_equal_channels() -> None:
    grey = degraded(grayscale=1)
    assert grey.shape == SMOOTH.shape
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    assert len(grey.unique()) > 20


def test_a_blur_is_gaussian_with_a_sigma_in_its_range() -> None:
    noise = torch.from_numpy(RNG(0).integers(0, 256, (3, 60, 80), dtype=np.uint8))
    sigmas = np.linspace(*BLUR_SIGMA, 40)
    for seed in range(5):
        blurred = Degradation(blur=1).apply(noise, RNG(seed)).float()
        references = (F.gaussian_blur(noise, [13, 13], [sigma, sigma]).float() for sigma in sigmas)
        assert min((blurred - reference).abs().mean().item() for reference in references) < 3
        assert blurred.std() < 0.95 * noise.float().std()


def test_noise_has_its_strength_and_no_offset() -> None:
    flat = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    sigmas = []
    for seed in range(20):
        noise = Degradation(noise=1).apply(flat, RNG(seed)).float() - 128
        sigmas.append(noise.std().item())
        assert abs(noise.mean().item()) < 0.2
    assert NOISE_SIGMA[0] * 0.9 < min(sigmas) < max(sigmas) < NOISE_SIGMA[1] * 1.1
    assert max(sigmas) - min(sigmas) > 5


def test_compression_is_that_of_jpeg() -> None:
    compressed = degraded(jpeg=1).permute(1, 2, 0).numpy()
    candidates = []
    for quality in range(40, 96):
        file = io.BytesIO()
        Image.fromarray(SMOOTH.permute(1, 2, 0).numpy()).save(file, "jpeg", quality=quality)
        candidates.append(abs(np.asarray(Image.open(file)).astype(int) - compressed).max())
    assert min(candidates) == 0


@pytest.mark.parametrize("key", ["grayscale", "blur", "noise", "jpeg"])
def test_degradations_come_as_often_as_asked(key: str) -> None:
    results = [degraded(seed, **{key: 0.3}) for seed in range(300)]
    assert 0.22 < np.mean([not torch.equal(result, SMOOTH) for result in results]) < 0.38


@pytest.mark.parametrize(
    "apply", [ColorJitter(0.5).apply, Degradation(grayscale=0.5, blur=0.5, noise=0.5, jpeg=0.5).apply]
)
def test_the_generator_alone_determines_the_result(apply: Callable[..., Tensor]) -> None:
    before, state = SMOOTH.clone(), torch.get_rng_state()
    first = [apply(SMOOTH, RNG(seed)) for seed in range(8)]
    torch.manual_seed(1)
    assert all(map(torch.equal, first, (apply(SMOOTH, RNG(seed)) for seed in range(8))))
    assert torch.equal(SMOOTH, before)
    torch.set_rng_state(state)
