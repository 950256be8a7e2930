import numpy as np
import pytest
import torch

from gcc_search.analysis.overlay import heatmap, overlay, upsample_map
from gcc_search.saliency.losses import normalise, upsample

RAW = np.random.default_rng(0).normal(size=(7, 7))


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array[None].copy())


@pytest.mark.parametrize("size", [7, 64, 225])
def test_maps_are_upsampled_as_in_training(size):
    np.testing.assert_allclose(upsample_map(RAW, size), upsample(as_tensor(RAW), size)[0].numpy(), atol=1e-12)


def test_heatmaps_are_those_that_are_measured():
    expected = normalise(upsample(as_tensor(RAW), 64))[0].numpy()
    np.testing.assert_allclose(heatmap(RAW, 64), expected, atol=1e-3)
    assert (heatmap(RAW, 64).min(), heatmap(RAW, 64).max()) == (0, 1)


def test_a_constant_map_is_empty():
    assert not heatmap(np.full((7, 7), -0.1), 64).any()


def test_bright_places_of_an_overlay_are_those_of_the_heatmap():
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    light = overlay(np.full((4, 4, 3), 128, np.uint8), heat).sum(axis=2)
    assert np.unravel_index(light.argmax(), light.shape) == (1, 2)
