"""Changes of pixels that leave boxes alone: colours, and what cameras and compression do."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.v2 import functional as F

BLUR_SIGMA = (0.3, 1.2)
"""Range of the standard deviation of a Gaussian blur in px; more would remove objects of 8 px."""
NOISE_SIGMA = (2.0, 12.0)
"""Range of the standard deviation of Gaussian noise in grey levels of 255."""
JPEG_QUALITY = (40, 95)
"""Range of the quality of a JPEG compression."""


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast and saturation.

    Args:
        strength: greatest distance of the three factors from 1; factors are at least 0.
    """

    strength: float

    def apply(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the colours of an image at random.

        Args:
            pixels: (3, H, W) uint8.
            rng: generator of random numbers.

        Returns:
            (3, H, W) uint8.
        """
        brightness, contrast, saturation = np.maximum(0, 1 + self.strength * rng.uniform(-1, 1, size=3)).tolist()
        pixels = F.adjust_brightness(pixels, brightness)
        pixels = F.adjust_contrast(pixels, contrast)
        return F.adjust_saturation(pixels, saturation)


@dataclass(frozen=True)
class Degradation:
    """Random loss of colour, focus and detail.

    Args:
        grayscale: probability of grey instead of colours.
        blur: probability of a Gaussian blur.
        noise: probability of Gaussian noise.
        jpeg: probability of a JPEG compression.
    """

    grayscale: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0

    def apply(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Degrade an image at random.

        Args:
            pixels: (3, H, W) uint8.
            rng: generator of random numbers.

        Returns:
            (3, H, W) uint8.
        """
        grayscale, blur, noise, jpeg = rng.random(4) < (self.grayscale, self.blur, self.noise, self.jpeg)
        blur_sigma, noise_sigma = rng.uniform(*BLUR_SIGMA), rng.uniform(*NOISE_SIGMA)
        quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
        if grayscale:
            pixels = F.rgb_to_grayscale(pixels, num_output_channels=3)
        if blur:
            pixels = _blur(pixels, blur_sigma)
        if noise:
            pixels = _add_noise(pixels, noise_sigma, rng)
        return _compress(pixels, quality) if jpeg else pixels


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    """Blur an image by Pillow, ten times as fast as by torchvision's convolution."""
    return F.pil_to_tensor(F.to_pil_image(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def _add_noise(pixels: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """Add noise from the given generator; torchvision's would take it from the process's."""
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    return noise.mul_(sigma).add_(pixels).round_().clamp_(0, 255).to(torch.uint8)


def _compress(pixels: Tensor, quality: int) -> Tensor:
    """Compress an image by Pillow; torchvision is about to lose its codecs."""
    file = BytesIO()
    F.to_pil_image(pixels).save(file, "jpeg", quality=quality)
    with Image.open(file) as image:
        return F.pil_to_tensor(image)
