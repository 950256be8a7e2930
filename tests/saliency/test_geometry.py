"""The transform against torchvision's, and the draws against a literal reading of torchvision's loop."""

import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as torchvision_functional

from gcc_search.saliency.geometry import (
    Transforms,
    apply_transforms,
    crop_shares,
    draw_transforms,
    move_heatmaps,
    move_maps,
)
from gcc_search.saliency.losses import upsample

PAPER_SCALE = (0.08, 1.0)


def transforms_of(boxes, flips):
    """Transforms of boxes given as fractions."""
    return Transforms(boxes=torch.tensor(boxes, dtype=torch.float64), flips=torch.tensor(flips))


def draw(heights, widths, seed=0, **options):
    options = {"scale": PAPER_SCALE, **options}
    generator = torch.Generator().manual_seed(seed)
    return draw_transforms(torch.tensor(heights), torch.tensor(widths), generator=generator, **options)


def pixel_boxes(transforms, heights, widths):
    return transforms.boxes * torch.tensor([heights, widths, heights, widths], dtype=torch.float64).T


def literal_draw(numbers, height, width, scale, ratio):
    """torchvision's RandomResizedCrop.get_params, fed with uniform numbers: areas, aspects, top, left."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * numbers[attempt])
        log_ratio = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * numbers[10 + attempt])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(numbers[20] * (height - h + 1)), int(numbers[21] * (width - w + 1)), h, w
    return RandomResizedCrop.get_params(torch.empty(1, height, width), [2.0, 2.0], list(ratio))


def test_transform_is_torchvisions_resized_crop_then_flip(generator):
    height, width, count = 30, 50, 40
    images = torch.rand(count, 2, height, width, generator=generator, dtype=torch.float64)
    transforms = draw([height] * count, [width] * count)
    moved = apply_transforms(transforms, images, 16)
    boxes = pixel_boxes(transforms, [height] * count, [width] * count).round().int().tolist()
    for image, box, flip, result in zip(images, boxes, transforms.flips, moved, strict=True):
        expected = torchvision_functional.resized_crop(image, *box, [16, 16], antialias=False)
        expected = torchvision_functional.horizontal_flip(expected) if flip else expected
        assert_close(result, expected, rtol=0, atol=1e-12)


def test_float32_images_agree_with_torchvision_to_rounding(generator):
    images = torch.rand(1, 3, 224, 224, generator=generator)
    transforms = transforms_of([[13 / 224, 101 / 224, 97 / 224, 120 / 224]], [False])
    expected = torchvision_functional.resized_crop(images, 13, 101, 97, 120, [224, 224], antialias=False)
    assert_close(apply_transforms(transforms, images, 224), expected, rtol=0, atol=5e-5)


def test_identity_returns_the_image(generator):
    images = torch.rand(2, 3, 16, 16, generator=generator)
    assert_close(apply_transforms(Transforms.identity(2), images, 16), images, rtol=0, atol=1e-5)


def test_flip_alone_mirrors_left_and_right(generator):
    images = torch.rand(1, 3, 16, 16, generator=generator)
    moved = apply_transforms(transforms_of([[0.0, 0.0, 1.0, 1.0]], [True]), images, 16)
    assert_close(moved, images.flip(3), rtol=0, atol=1e-5)


def test_crop_of_a_squashed_copy_is_the_crop_of_the_photograph():
    def ramp(height, width):
        """A plane, which bilinear sampling reproduces: (3 x + y) at the centre of each pixel, in frame units."""
        rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        return (rows[:, None] + 3 * columns)[None, None]

    transforms = transforms_of([[0.21, 0.13, 0.5, 0.6]], [True])
    photograph = apply_transforms(transforms, ramp(60, 140), 12)
    squashed = apply_transforms(transforms, ramp(40, 40), 12)
    # The outermost samples stop at pixel centres, which differ between the rasters.
    assert_close(squashed[..., 1:-1, 1:-1], photograph[..., 1:-1, 1:-1])


def test_crop_smaller_than_a_pixel_is_its_centre():
    image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]], dtype=torch.float64)
    moved = apply_transforms(transforms_of([[0.4, 0.45, 0.1, 0.1]], [False]), image, 3)
    assert_close(moved, torch.full((1, 1, 3, 3), 0.5, dtype=torch.float64))


def test_gradients_of_the_transform_are_those_of_finite_differences(generator):
    images = torch.rand(2, 1, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    transforms = transforms_of([[0.1, 0.2, 0.6, 0.5], [0.0, 0.0, 1.0, 1.0]], [True, False])
    assert torch.autograd.gradcheck(lambda x: apply_transforms(transforms, x, 5), (images,))


def test_heatmaps_move_as_images_do(generator):
    heatmaps = torch.rand(4, 20, 20, generator=generator)
    transforms = draw([20] * 4, [20] * 4)
    assert_close(move_heatmaps(transforms, heatmaps, 12), apply_transforms(transforms, heatmaps[:, None], 12)[:, 0])


def test_transform_of_one_image_ignores_the_rest_of_the_batch(generator):
    images = torch.rand(4, 1, 20, 20, generator=generator)
    transforms = draw([20] * 4, [20] * 4)
    alone = apply_transforms(transforms.select([2]), images[2:3], 12)
    assert_close(apply_transforms(transforms, images, 12)[2:3], alone, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [PAPER_SCALE, (0.9, 1.0)])
def test_draws_are_torchvisions_fed_with_the_same_numbers(scale):
    sizes = [(224, 224), (300, 200), (61, 500), (500, 61), (8, 9), (1, 400)] * 20
    heights, widths = map(list, zip(*sizes, strict=True))
    transforms = draw(heights, widths, seed=3, scale=scale)
    numbers = torch.empty(len(sizes), 23, dtype=torch.float64).uniform_(generator=torch.Generator().manual_seed(3))
    expected = [
        literal_draw(row, h, w, scale, (3 / 4, 4 / 3)) for row, (h, w) in zip(numbers.tolist(), sizes, strict=True)
    ]
    boxes = pixel_boxes(transforms, heights, widths)
    assert_close(boxes, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
    assert torch.equal(transforms.flips, numbers[:, 22] < 0.5)


def test_draws_have_the_mean_area_and_aspect_of_torchvisions():
    count, size = 2000, 100
    boxes = pixel_boxes(draw([size] * count, [size] * count), [size] * count, [size] * count)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, size, size)
        theirs = [RandomResizedCrop.get_params(image, list(PAPER_SCALE), [3 / 4, 4 / 3]) for _ in range(count)]
    theirs = torch.tensor(theirs, dtype=torch.float64)
    for summary in (lambda b: b, lambda b: b[:, 2:].prod(1, keepdim=True), lambda b: (b[:, 3:] / b[:, 2:3]).log()):
        ours, reference = summary(boxes), summary(theirs)
        standard_error = (ours.var(0) + reference.var(0)).div(count).sqrt()
        assert ((ours.mean(0) - reference.mean(0)).abs() < 4 * standard_error).all()


def test_what_an_image_gets_does_not_depend_on_those_after_it_or_on_their_sizes():
    few, many = draw([50] * 3, [60] * 3), draw([50] * 3 + [9] * 6, [60] * 3 + [500] * 6)
    assert torch.equal(few.boxes, many.boxes[:3])
    assert torch.equal(few.flips, many.flips[:3])


def test_no_crop_is_less_than_a_pixel():
    frame = torch.full((2000,), 4)
    drawn = draw_transforms(frame, frame, scale=(0.001, 1.0), generator=torch.Generator().manual_seed(0))
    assert drawn.boxes[:, 2:].min() == 1 / 4


def test_every_image_uses_up_equally_many_random_numbers():
    states = []
    for height in (224, 1):
        generator = torch.Generator().manual_seed(0)
        draw_transforms(torch.tensor([height]), torch.tensor([224]), scale=PAPER_SCALE, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_flip_probability_bounds_are_never_and_always(probability, share):
    assert draw([9] * 50, [9] * 50, flip_probability=probability).flips.double().mean() == share


def test_full_scale_and_square_ratio_draw_the_whole_square():
    assert torch.equal(draw([20], [20], scale=(1.0, 1.0), ratio=(1.0, 1.0)).boxes, Transforms.identity(1).boxes)


def test_center_crop_is_square_in_pixels_of_the_photograph():
    transforms = Transforms.center_crop(torch.tensor([100, 300]), torch.tensor([200, 150]), fraction=0.5)
    expected = [[0.25, 0.375, 0.5, 0.25], [0.375, 0.25, 0.25, 0.5]]
    assert_close(transforms.boxes, torch.tensor(expected, dtype=torch.float64))
    assert not transforms.flips.any()


def test_transforms_move_between_devices_as_one():
    moved = Transforms.identity(2).to("meta")
    assert moved.boxes.is_meta
    assert moved.flips.is_meta


def test_transforms_on_the_cpu_move_images_on_any_device():
    images = torch.empty(2, 3, 9, 9, device="meta")
    moved = apply_transforms(Transforms.identity(2), images, 5)
    assert moved.is_meta
    assert moved.shape == (2, 3, 5, 5)


def test_transforms_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Transforms.identity(1).flips = torch.tensor([True])


def test_crop_region_counts_a_pixel_by_the_share_inside():
    rows, columns = crop_shares(transforms_of([[0.0, 0.125, 0.5, 0.5]], [True]), 4)
    assert_close([rows.tolist(), columns.tolist()], [[[1.0, 1.0, 0.0, 0.0]], [[0.5, 1.0, 0.5, 0.0]]])


def test_crop_region_has_the_area_of_the_crop():
    transforms = draw([33] * 20, [47] * 20)
    assert_close(crop_shares(transforms, 14).mean(2).prod(0), transforms.boxes[:, 2:].prod(1))


@pytest.mark.parametrize(("cells", "size"), [(7, 224), (4, 32), (14, 64)])
def test_raw_maps_moved_at_once_are_those_enlarged_first_and_moved_then(cells, size):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, cells, cells, dtype=torch.float64, generator=generator)
    cut, whole = draw([size] * 4, [size] * 4), Transforms.identity(2)
    transforms = Transforms(boxes=torch.cat([cut.boxes, whole.boxes]), flips=torch.cat([cut.flips, whole.flips]))
    gradients = []
    for way in (
        lambda raw: move_maps(transforms, raw, size),
        lambda raw: move_heatmaps(transforms, upsample(raw, size), size),
    ):
        raw = maps.clone().requires_grad_()
        moved = way(raw)
        (moved * torch.linspace(-1, 1, size * size, dtype=torch.float64).view(size, size).sin()).sum().backward()
        gradients.append((moved.detach(), raw.grad))
    assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_maps_at_the_edge_of_a_crop_do_not_reach_beyond_it():
    """A crop of the left half, whose outermost samples stay inside it."""
    maps = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    left = transforms_of([[0.0, 0.0, 1.0, 0.5]], [False])
    assert_close(move_maps(left, maps, 8), move_heatmaps(left, upsample(maps, 8), 8))
