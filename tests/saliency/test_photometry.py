"""New colours and blurs against torchvision's, one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as torchvision_functional

from gcc_search.saliency.photometry import Photometry, apply_photometry, draw_photometry
from gcc_search.training.shapes import draw_scene

# Brightness, contrast, saturation, hue, blur: each alone, down and up, then all of them.
VALUES = [
    [0.4, 1.0, 1.0, 0.0, 0.0],
    [1.7, 1.0, 1.0, 0.0, 0.0],
    [1.0, 0.3, 1.0, 0.0, 0.0],
    [1.0, 1.6, 1.0, 0.0, 0.0],
    [1.0, 1.0, 0.2, 0.0, 0.0],
    [1.0, 1.0, 1.8, 0.0, 0.0],
    [1.0, 1.0, 1.0, -0.2, 0.0],
    [1.0, 1.0, 1.0, 0.13, 0.0],
    [1.0, 1.0, 1.0, 0.0, 0.4 / 48],
    [1.0, 1.0, 1.0, 0.0, 2.0 / 48],
    [1.3, 0.8, 1.4, 0.07, 1.1 / 48],
]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """As many as there are VALUES, in [0, 1], 48 pixels on a side, float64."""
    scenes = [draw_scene(0, number, 48).pixels for number in range(len(VALUES))]
    return torch.stack([torch.from_numpy(pixels) for pixels in scenes]).double() / 255


def reference(image: torch.Tensor, values: list[float]) -> torch.Tensor:
    brightness, contrast, saturation, hue, blur = values
    image = torchvision_functional.adjust_brightness(image, brightness)
    image = torchvision_functional.adjust_contrast(image, contrast)
    image = torchvision_functional.adjust_saturation(image, saturation)
    image = torchvision_functional.adjust_hue(image, hue)
    # Of nine sigmas on either side, the most that its mirror allows.
    return torchvision_functional.gaussian_blur(image, [95, 95], [48 * blur] * 2) if blur else image


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_colours_and_blurs_are_torchvisions(images, dtype):
    found = apply_photometry(Photometry(values=torch.tensor(VALUES)), images.to(dtype))
    assert found.dtype == dtype
    for number, values in enumerate(VALUES):
        # Grey is 0.2989 of red there, and 0.299 here.
        assert_close(found[number], reference(images[number], values).to(dtype), rtol=0, atol=1e-4)
        assert (found[number] - images[number]).abs().mean() > 0.005


def test_the_identity_leaves_images_as_they_are(images):
    found = apply_photometry(Photometry.identity(len(images)), images)
    assert_close(found, images, rtol=0, atol=1e-7)


def test_an_image_does_not_depend_on_the_rest_of_its_batch(images):
    photometry = Photometry(values=torch.tensor(VALUES))
    together = apply_photometry(photometry, images)
    for number in range(len(VALUES)):
        alone = apply_photometry(photometry.select([number]), images[number : number + 1])
        assert_close(together[number : number + 1], alone, rtol=0, atol=1e-12)


def test_an_image_of_one_colour_is_blurred_to_itself_up_to_its_border():
    grey, blurred = torch.full((1, 3, 40, 40), 0.4), torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.05]])
    assert_close(apply_photometry(Photometry(values=blurred), grey), grey)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_draws_are_simclrs(generator, strength):
    values = draw_photometry(4000, strength=strength, generator=generator).values
    factors, hue, blur = values[:, :3], values[:, 3], values[:, 4]
    for drawn, middle, reach in ((factors, 1.0, 0.8 * strength), (hue, 0.0, 0.2 * strength)):
        assert_close((drawn - middle).abs().max(), torch.tensor(reach), rtol=0.01, atol=0)
        assert ((drawn - middle).abs() <= reach + 1e-6).all()
        assert_close(drawn.mean(0), torch.full_like(drawn.mean(0), middle), rtol=0, atol=0.05 * reach)
        # Uniform: its variance is that of a box.
        assert_close(drawn.var(0), torch.full_like(drawn.var(0), reach**2 / 3), rtol=0.06, atol=0)
    sigmas = 224 * blur[blur > 0]
    assert len(sigmas) == pytest.approx(2000, abs=100)
    assert (sigmas.min(), sigmas.max()) == (pytest.approx(0.1, abs=0.01), pytest.approx(2.0, abs=0.01))
    assert sigmas.mean() == pytest.approx(1.05, abs=0.04)
    # Each of them is drawn by itself.
    together = torch.corrcoef(values.T)
    assert (together - torch.eye(5)).abs().max() < 0.06


def test_many_drawn_at_once_are_those_drawn_one_after_the_other():
    at_once, by_parts = (torch.Generator().manual_seed(3) for _ in range(2))
    parts = [draw_photometry(count, strength=0.5, generator=by_parts).values for count in (1, 16, 3)]
    assert torch.equal(draw_photometry(20, strength=0.5, generator=at_once).values, torch.cat(parts))


def test_it_is_selected_and_sent_whole(generator):
    drawn = draw_photometry(5, strength=1.0, generator=generator)
    assert len(drawn.select(slice(1, 3))) == 2
    assert torch.equal(drawn.select([4, 0]).to("cpu").values, drawn.values[[4, 0]])
