"""Position of the heat, and the contents of the picture."""

import numpy as np
import pytest
import torch

from mrqm.visualization.query_heatmap import HEAT, density, draw_densities


def test_the_most_heat_is_where_most_queries_are() -> None:
    centers = torch.tensor([[0.25, 0.75]] * 3 + [[0.8, 0.2]])
    heat = density(centers, (100, 200))
    assert heat.shape == (100, 200)
    assert np.unravel_index(heat.argmax(), heat.shape) == pytest.approx((75, 50), abs=1)
    assert heat.max() == 1
    assert heat[20, 160] == pytest.approx(1 / 3, abs=0.01)


def test_the_edge_of_an_image_is_not_hotter() -> None:
    heat = density(torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.5, 0.5]]), (100, 200))
    assert np.unravel_index(heat.argmax(), heat.shape) == pytest.approx((50, 100), abs=1)
    assert heat[0, 0] == pytest.approx(1 / 2, abs=0.01)


def test_no_queries_give_no_heat() -> None:
    assert density(torch.zeros(0, 2), (10, 10)).max() == 0


def test_queries_outside_the_image_do_not_count() -> None:
    assert density(torch.tensor([[1.4, 0.5], [0.5, -0.1]]), (10, 10)).max() == 0


def test_a_row_per_image_has_a_column_per_kind() -> None:
    images = torch.full((2, 3, 64, 96), 128, dtype=torch.uint8)
    targets = [{"size": torch.tensor([64, 96])}, {"size": torch.tensor([48, 96])}]
    one = draw_densities(images[:1], targets[:1], {"selected": [torch.rand(5, 2)]})
    four = draw_densities(images, targets, {name: [torch.rand(5, 2)] * 2 for name in ("selected", "mined")})
    assert four.width > 1.8 * one.width
    assert four.height > 1.6 * one.height


def test_the_colours_are_explained() -> None:
    drawn = draw_densities(
        torch.zeros(1, 3, 64, 96, dtype=torch.uint8),
        [{"size": torch.tensor([64, 96])}],
        {"all": [torch.full((1, 2), 0.5)]},
    )
    below = np.asarray(drawn)[-40:].reshape(-1, 3)
    assert {tuple(colour) for colour in HEAT[[0, 2, 4]].astype(int)} <= {tuple(pixel) for pixel in below}
