"""Insertion and deletion against RISE's own loop, written out one image and one step at a time."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.testing import assert_close

from gcc_search.saliency.scores import NUM_STEPS, blur, draw_tie_orders, insertion_deletion


@pytest.fixture
def network(generator):
    """A small network whose scores depend on where things are."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).double()
    layers(torch.zeros(1, 3, 16, 16, dtype=torch.float64))
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return layers.eval().requires_grad_(False)


@pytest.fixture
def images(generator):
    return torch.randn(3, 3, 16, 16, generator=generator, dtype=torch.float64)


@pytest.fixture
def heatmaps(generator):
    return torch.randn(3, 16, 16, generator=generator, dtype=torch.float64)


def play(network, images, heatmaps, *, classes=None, seeds=(1, 2, 3), batch_size=64):
    classes = network(images).argmax(1) if classes is None else classes
    orders = draw_tie_orders(list(seeds)[: len(images)], heatmaps[0].numel())
    return insertion_deletion(network, images, heatmaps, classes=classes, tie_orders=orders, batch_size=batch_size)


def rise_blur(image):
    """RISE's `gkern` and its zero-padded convolution."""
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse, 5)).expand(3, 1, 11, 11)
    return nn.functional.conv2d(image, kernel, padding=5, groups=3)


def rise_curve(network, image, heatmap, *, inserting):
    """RISE's CausalMetric.single_run with 28 steps; `image` is a batch of one and no two pixels tie."""
    start = rise_blur(image) if inserting else image.clone()
    finish = image if inserting else torch.zeros_like(image)
    target = int(network(image).argmax())
    order = np.flip(np.argsort(heatmap.numpy().reshape(-1)))
    scores = []
    for step in range(NUM_STEPS + 1):
        moved = torch.from_numpy(order[: round(step * len(order) / NUM_STEPS)].copy())
        current = start.clone()
        current.view(3, -1)[:, moved] = finish.reshape(3, -1)[:, moved]
        scores.append(float(network(current).softmax(1)[0, target]))
    return scores


def rise_auc(scores):
    return (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


@pytest.mark.parametrize("inserting", [True, False], ids=["insertion", "deletion"])
def test_curves_and_areas_are_those_of_rise(inserting, network, images, heatmaps):
    scores = play(network, images, heatmaps)
    curves = scores.insertion_curves if inserting else scores.deletion_curves
    areas = scores.iauc if inserting else scores.dauc
    for image, heatmap, curve, area in zip(images, heatmaps, curves, areas, strict=True):
        expected = rise_curve(network, image[None], heatmap, inserting=inserting)
        assert_close(curve.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)
        assert float(area) == pytest.approx(rise_auc(expected), abs=1e-6)


def test_blur_is_rises(images):
    assert_close(blur(images), rise_blur(images))


def test_ends_are_blurred_whole_and_empty_images(network, images, heatmaps):
    scores = play(network, images, heatmaps)
    classes = network(images).argmax(1)[:, None]

    def probability(x):
        return network(x).float().softmax(1).gather(1, classes)[:, 0]

    assert_close(scores.iauc_start, probability(blur(images)))
    assert_close(scores.iauc_end, probability(images))
    assert torch.equal(scores.iauc_end, scores.deletion_curves[:, 0])
    assert_close(scores.deletion_curves[:, -1], probability(torch.zeros_like(images)))


def test_probability_equal_to_the_share_left_has_area_one_half():
    def share_left(images):
        share = images.mean((1, 2, 3)).clamp(1e-12, 1 - 1e-12)
        return torch.stack([share.log(), (1 - share).log()], 1)

    images = torch.ones(1, 1, 28, 28, dtype=torch.float64)
    heatmaps = torch.arange(784.0, dtype=torch.float64).view(1, 28, 28)
    scores = play(share_left, images, heatmaps, classes=torch.tensor([0]))
    assert_close(scores.deletion_curves[0], 1 - torch.arange(29) / 28)
    assert_close(scores.dauc, torch.tensor([0.5]))


def test_map_that_finds_the_pixel_that_matters_inserts_high_and_deletes_low():
    def sees_the_corner(images):
        corner = 20 * images[:, 0, 0, 0] - 10
        return torch.stack([corner, -corner], 1)

    image = torch.ones(1, 1, 28, 28)
    found, missed = torch.zeros(1, 28, 28), torch.ones(1, 28, 28)
    found[0, 0, 0], missed[0, 0, 0] = 1, 0
    good, bad = (play(sees_the_corner, image, heatmap, classes=torch.tensor([0])) for heatmap in (found, missed))
    assert good.iauc > bad.iauc
    assert good.dauc < 0.02
    assert bad.dauc > 0.98


def test_scores_ignore_batch_size_batch_mates_and_monotone_changes_of_the_map(network, images, heatmaps):
    scores = play(network, images, heatmaps)
    for other in (play(network, images, heatmaps, batch_size=7), play(network, images, heatmaps.exp())):
        assert_close(other.insertion_curves, scores.insertion_curves)
        assert_close(other.deletion_curves, scores.deletion_curves)
    alone = play(network, images[:1], heatmaps[:1])
    assert_close(alone.insertion_curves, scores.insertion_curves[:1])


def test_pixels_below_zero_are_ordered_by_the_signed_map(network, images, heatmaps):
    """ReLU ties them; the signed map breaks the tie, so that the seed has nothing left to decide."""
    below = heatmaps - 100
    assert_close(play(network, images, below).iauc, play(network, images, below, seeds=(7, 8, 9)).iauc)


def test_tied_pixels_move_in_an_order_that_the_seed_alone_decides(network, images):
    flat = torch.zeros(3, 16, 16, dtype=torch.float64)
    first, again, other = (play(network, images, flat, seeds=s).iauc for s in ((1, 2, 3), (1, 2, 3), (4, 5, 6)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_tied_pixels_move_in_the_order_that_is_drawn_for_their_image():
    moved = []

    def watching(batch):
        moved.append((batch == 0).flatten(1))
        return torch.zeros(len(batch), 2)

    images, flat, classes = torch.ones(2, 1, 7, 4), torch.zeros(2, 7, 4), torch.tensor([0, 0])
    orders = draw_tie_orders(torch.tensor([1, 2]), 28)
    insertion_deletion(watching, images, flat, classes=classes, tie_orders=orders, batch_size=57)
    for image, order in enumerate(orders):
        for step in range(NUM_STEPS + 1):
            expected = torch.zeros(28, dtype=torch.bool)
            expected[order[:step]] = True
            assert torch.equal(moved[image][NUM_STEPS + step], expected)


def test_orders_of_ties_are_permutations_and_each_seeds_own():
    orders, alone = draw_tie_orders([5, 6, 7], 100), draw_tie_orders([6], 100)
    assert torch.equal(orders.sort(1).values, torch.arange(100).expand(3, -1))
    assert torch.equal(orders[1], alone[0])
    assert not torch.equal(orders[0], orders[1])


def test_network_sees_57_images_for_each_in_full_batches(network, images, heatmaps):
    sizes = []

    def counting(batch):
        sizes.append(len(batch))
        return network(batch)

    play(counting, images, heatmaps, classes=torch.tensor([0, 1, 2]), batch_size=50)
    assert sizes == [50, 50, 50, 21]


def test_every_step_at_224_moves_1792_pixels():
    counts = []

    def counting(batch):
        counts.extend((batch != 0).sum((1, 2, 3)).tolist())
        return torch.zeros(len(batch), 2)

    play(counting, torch.ones(1, 1, 224, 224), torch.zeros(1, 224, 224), classes=torch.tensor([0]))
    assert counts[NUM_STEPS:] == [50_176 - 1_792 * step for step in range(NUM_STEPS + 1)]
