"""COSE's pairs: maps that move along, ignore the image or are constant; and each image as if it were alone."""

from __future__ import annotations

import pytest
import torch
from PIL import ImageOps
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.seeding import derive_seed
from gcc_search.training.cose import PASSES, choose_images, measure_cose, untrained_network
from gcc_search.training.cose_transforms import TRANSFORMS, draw_amounts
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.examples import to_pixels
from gcc_search.training.network import Network, PooledNetwork
from gcc_search.training.showing import prepare
from tests.training.test_cose_transforms import as_frame, as_picture

CPU = torch.device("cpu")
NAMES = [transform.name for transform in TRANSFORMS]
GEOMETRIC = slice(0, NAMES.index("brightness"))
FLIPS = [NAMES.index("flip left-right"), NAMES.index("flip up-down")]
PHOTOMETRIC = slice(NAMES.index("brightness"), NAMES.index("smooth") + 1)


def make_evaluation(**changes) -> Evaluation:
    return Evaluation(**({"image_size": 32, "crop": 1.0, "seed": 0, "batch_size": 16, "device": CPU} | changes))


class Toy(PooledNetwork):
    """Feature maps are a function of the image; the head is a linear layer of fixed weights."""

    def __init__(self, paint, *, num_features: int = 3) -> None:
        super().__init__(nn.Linear(num_features, 8))
        self.paint = paint
        with torch.no_grad():
            self.model.weight.copy_(torch.linspace(-1, 1, 8 * num_features).view(8, num_features).sin())
            self.model.bias.zero_()

    def features(self, images):
        return self.paint(images)

    def map_side(self, image_size):
        return image_size // 8

    @property
    def head(self) -> nn.Module:
        return self.model


def mosaic(images):
    """Mean colours of 8 x 8 pixels: they move along with the image when it is mirrored."""
    return functional.avg_pool2d(images, 8)


def brightness(images):
    """Of each pixel, 0 for black."""
    black = prepare(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), CPU)
    return (images - black).mean(1, keepdim=True)


def spot(images):
    """One lit cell, whatever is shown."""
    lit = images.new_zeros(4, 4)
    lit[0, 1] = 1
    return lit.expand(len(images), 3, 4, 4)


@pytest.fixture(scope="module")
def network(differing_network) -> Network:
    return differing_network


@pytest.fixture(scope="module")
def stranger() -> Network:
    return untrained_network("convnet_small", num_classes=8, evaluation=make_evaluation())


@pytest.fixture(scope="module")
def pairs(network, stranger, shapes):
    return measure_cose((network, stranger), shapes.test, make_evaluation(), chosen=torch.arange(16))


def measured(network, images, **options):
    return measure_cose((network, network), images, make_evaluation(), chosen=torch.arange(len(images)), **options)


def test_maps_that_are_mirrored_with_the_image_are_perfectly_consistent(shapes):
    found = measured(Toy(mosaic), shapes.test)
    assert_close(found.similarity[:, FLIPS], torch.ones(16, 2).double(), rtol=0, atol=1e-5)
    assert torch.equal(found.predicted_then[:, FLIPS], found.predicted[:, None].expand(-1, 2))
    assert found.similarity[:, NAMES.index("blur")].mean() < 0.999


def test_maps_that_move_along_with_the_image_are_found_where_they_were(shapes):
    """But for what a turn takes from the nearest pixel, and for the range, which black that comes in may change."""
    similarity = measured(Toy(brightness, num_features=1), shapes.test).similarity.mean(0)
    for name, least in (("translate x", 0.98), ("translate y", 0.98), ("rotate", 0.6)):
        assert similarity[NAMES.index(name)] > least


def test_maps_that_ignore_the_image_do_not_move_along_with_it(shapes):
    found = measured(Toy(spot), shapes.test)
    assert torch.equal(found.similarity[:, PHOTOMETRIC], torch.ones(16, 8).double())
    # By one pixel at the least.
    assert (found.similarity[:, GEOMETRIC] < 0.97).all()
    assert (found.similarity[:, FLIPS] < 0.7).all()
    assert (found.predicted_then == found.predicted[:, None]).all()


def test_constant_maps_are_consistent_unlike_those_of_random_weights_and_noted(shapes, network, pairs):
    constant = Toy(lambda images: images.new_ones(len(images), 3, 4, 4))
    found = measure_cose((constant, network), shapes.test, make_evaluation(), chosen=torch.arange(16))
    assert torch.equal(found.similarity[:, PHOTOMETRIC], torch.ones(16, 8).double())
    assert found.similarity[:, -1].mean() < 0.3
    assert found.is_empty.all()
    assert not pairs.is_empty.any()


def test_the_same_network_is_the_same_under_its_own_weights(network, shapes):
    assert torch.equal(measured(network, shapes.test).similarity[:, -1], torch.ones(16).double())


def test_random_weights_give_other_maps_and_are_the_same_each_time(pairs, stranger, network):
    assert pairs.similarity[:, -1].mean() < 0.9
    again = untrained_network("convnet_small", num_classes=8, evaluation=make_evaluation())
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, stranger.state_dict()[name])
    assert not torch.equal(again.model.fc.weight, network.model.fc.weight)


@pytest.mark.parametrize("index", [0, 5, 15])
def test_an_equalised_image_is_scored_by_hand(network, shapes, pairs, index):
    from skimage.metrics import structural_similarity

    frame = to_pixels(make_evaluation().show(shapes.test, torch.tensor([index])))[0].permute(2, 0, 1)
    views = torch.stack([frame, as_frame(ImageOps.equalize(as_picture(frame)))])
    x = prepare(views, CPU)
    with torch.no_grad():
        predicted = network(x).argmax(1)
        maps = gradcam(network.features(x), network.head, predicted)
    a, b = normalise(upsample(maps.relu(), 32)).double().numpy()
    data_range = max(a.max() - a.min(), b.max() - b.min())
    expected = structural_similarity(a, b, win_size=5, data_range=data_range)
    place = NAMES.index("equalise")
    assert float(pairs.similarity[index, place]) == pytest.approx(expected, abs=1e-5)
    assert pairs.predicted_then[index, place] == predicted[1]
    assert pairs.predicted[index] == predicted[0]


def test_an_image_is_scored_as_if_it_were_alone(network, stranger, shapes, pairs):
    chosen = torch.tensor([3, 11])
    alone = measure_cose((network, stranger), shapes.test, make_evaluation(batch_size=1), chosen=chosen)
    assert_close(alone.similarity, pairs.similarity[chosen], rtol=0, atol=1e-5)
    assert torch.equal(alone.predicted_then, pairs.predicted_then[chosen])
    assert torch.equal(alone.amounts, pairs.amounts[chosen])
    assert torch.equal(alone.labels, shapes.test.labels[chosen])


def test_amounts_are_fixed_by_seed_and_image(pairs):
    expected = draw_amounts([derive_seed(0, index, "cose amounts") for index in range(16)])
    assert torch.equal(pairs.amounts, expected)


def test_some_predictions_change_and_some_do_not(pairs):
    """Else the tests beside this one could not tell whose class is explained."""
    changed = pairs.predicted_then != pairs.predicted[:, None]
    assert changed[:, :-1].any()
    assert not changed[:, :-1].all()


def test_images_are_chosen_by_the_seed_and_all_where_there_are_few():
    chosen = choose_images(100, make_evaluation(), most=10)
    assert len(chosen) == 10
    assert torch.equal(chosen, chosen.unique())
    assert torch.equal(chosen, choose_images(100, make_evaluation(), most=10))
    assert not torch.equal(chosen, choose_images(100, make_evaluation(seed=1), most=10))
    assert choose_images(5, make_evaluation(), most=10).tolist() == [0, 1, 2, 3, 4]


def test_progress_is_told_in_forward_passes(network, shapes):
    told = []
    measure_cose(
        (network, network),
        shapes.test,
        make_evaluation(batch_size=8),
        chosen=torch.arange(12),
        on_step=lambda done, total: told.append((done, total)),
    )
    assert told == [(8 * PASSES, 12 * PASSES), (12 * PASSES, 12 * PASSES)]
