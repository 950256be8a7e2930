"""Several processes and one batch: losses, gradients and statistics are those of one process."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import make_layers
from torchvision.ops import StochasticDepth

from gcc_search.saliency.geometry import draw_transforms
from gcc_search.saliency.photometry import draw_photometry
from gcc_search.saliency.resampling import make_resampling
from gcc_search.settings import Explanation
from gcc_search.training.crew import Crew, Share
from gcc_search.training.learner import Learner
from gcc_search.training.network import Network
from gcc_search.training.networks import SmallClassifier, SmallConvNet
from gcc_search.training.pooled import ConvNeXtClassifier
from gcc_search.training.terms import loss_terms
from gcc_search.training.vgg import VGGClassifier
from gcc_search.training.vit import VisionTransformerClassifier
from gcc_search.training.whole_batch import WholeBatch, WholeDropout, WholeStochasticDepth, see_whole_batches
from tests.mates import Mates

BOTH_TERMS = Explanation(alpha=1.0, beta=0.1)


@pytest.fixture(scope="module")
def mates():
    mates = Mates()
    yield mates
    mates.end()


def make_network(name: str) -> Network:
    """In float64, so that only rounding is left to differ, and the last digits show what is more."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "convnet_small":
            return SmallClassifier(SmallConvNet(5)).double()
        if name == "transformer":
            return make_transformer().double()
        if name == "vgg":
            return make_vgg().double()
        # Drops half of the images in every block.
        blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)]
        model = torchvision.models.ConvNeXt(blocks, stochastic_depth_prob=0.5, layer_scale=1.0, num_classes=5)
        return ConvNeXtClassifier(model).double()


def make_vgg() -> Network:
    """With dropout, whose draws are to be those of one process."""
    model = torchvision.models.VGG(make_layers([8, "M", 8, "M", 16, "M"], batch_norm=True), init_weights=False)
    # torchvision's own has a hundred million parameters.
    model.classifier = nn.Sequential(
        nn.Linear(16 * 49, 12),
        nn.ReLU(True),
        nn.Dropout(0.5),
        nn.Linear(12, 8),
        nn.ReLU(True),
        nn.Dropout(0.5),
        nn.Linear(8, 5),
    )
    return VGGClassifier(model)


def make_transformer() -> Network:
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16, "num_classes": 5}
    network = VisionTransformerClassifier(torchvision.models.VisionTransformer(image_size=16, patch_size=8, **sizes))
    # torchvision's begins with zeros.
    torch.nn.init.normal_(network.model.heads.head.weight)
    return network


def step(
    crew: Crew | None, name: str, count: int, explanation: Explanation, *, is_recomputed: bool = False
) -> dict[str, Any]:
    """What one step on `count` images gives: the loss, gradients, statistics, and momentum after it."""
    network = make_network(name)
    network.is_recomputed = is_recomputed
    # The others' weights are rank 0's from the beginning.
    if crew is not None and crew.share.rank > 0:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    learner = Learner(network, loss_terms, optimizer=optimizer, crew=crew)
    network.train()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=generator)
    frame = torch.full((count,), 32)
    transforms = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)
    labels = torch.arange(count) % 5
    rows = learner.begin(count)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        moved = transforms.select(rows)
        in_windows = explanation.distance == "ssim"
        matrices = make_resampling(moved, 4, 32, x.dtype, in_windows=in_windows) if explanation.alpha > 0 else None
        photometry = draw_photometry(count, strength=1.0, generator=generator).select(rows)
        recolour = photometry if explanation.photometric else None
        terms = learner.terms(x[rows], labels[rows], moved, explanation, matrices, recolour)
        draw_after = torch.rand(1)
    loss = terms.total(1.0, 0.1, of=count / learner.num_shares)
    loss.backward()
    whole = learner.sum(loss.detach() / learner.num_shares)
    optimizer.step()
    return {
        "loss": whole,
        "draw after": draw_after,
        "gradients": [parameter.grad for parameter in network.parameters()],
        "state": dict(network.model.state_dict()),
        "momentum": [optimizer.state[parameter]["momentum_buffer"] for parameter in network.parameters()],
    }


@pytest.mark.parametrize(
    ("size", "count", "explanation"),
    [
        (2, 8, BOTH_TERMS),
        # Shares differ by an image; with two on one process, one of them alone.
        (2, 3, BOTH_TERMS),
        (3, 7, BOTH_TERMS),
        # Fewer images than processes: each takes them all.
        (3, 2, BOTH_TERMS),
        (2, 6, Explanation()),
        (2, 6, Explanation(beta=1.0, p=2.0, sparsity="paper")),
        (2, 6, Explanation(alpha=1.0, beta=0.1, detach="second-view")),
        (2, 6, Explanation(alpha=1.0, detach="head", cam_class="own", distance="correlation")),
        (2, 6, Explanation(alpha=1.0, ce_on_views="both")),
        (2, 6, Explanation(alpha=1.0, photometric=1.0)),
    ],
)
@pytest.mark.parametrize("name", ["convnet_small", "convnext", "transformer", "vgg"])
def test_a_step_of_several_is_that_of_one(mates, name, size, count, explanation):
    alone = step(None, name, count, explanation)
    for found in mates.run(size, step, name, count, explanation):
        assert_close(found, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["convnet_small", "convnext", "transformer", "vgg"])
def test_blocks_that_are_computed_again_ask_the_others_again(mates, name):
    alone = step(None, name, 3, BOTH_TERMS)
    for found in mates.run(2, functools.partial(step, is_recomputed=True), name, 3, BOTH_TERMS):
        assert_close(found, alone, rtol=1e-9, atol=1e-9)


def test_parameters_keep_their_names_and_evaluation_needs_nobody(mates):
    names = mates.run(2, names_and_logits)
    alone = make_network("convnet_small").eval()
    assert names[0][0] == list(alone.state_dict())
    assert_close(names[0][1], alone(torch.ones(2, 3, 32, 32, dtype=torch.float64)))


def names_and_logits(crew: Crew) -> tuple[list[str], torch.Tensor] | None:
    network = make_network("convnet_small")
    Learner(network, loss_terms, optimizer=torch.optim.SGD(network.parameters()), crew=crew)
    if crew.share.rank > 0:
        return None
    with torch.no_grad():
        return list(network.state_dict()), network.eval()(torch.ones(2, 3, 32, 32, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "order"),
    [((7,), torch.contiguous_format), ((3, 5, 5), torch.channels_last), ((3, 5, 5), torch.contiguous_format)],
)
@pytest.mark.parametrize("num_views", [1, 2])
def test_dropout_leaves_out_the_values_that_one_process_would(num_views, shape, order):
    count, size = 10, 3
    views = torch.randn(num_views, count, *shape, dtype=torch.float64)
    like = nn.Dropout(0.3)
    torch.manual_seed(0)
    expected = like(views.flatten(0, 1).to(memory_format=order)).unflatten(0, (num_views, count))
    assert 0 < int((expected == 0).sum()) < expected.numel()
    for rank in range(size):
        batch = WholeBatch(Share(rank=rank, size=size))
        batch.count = count
        torch.manual_seed(0)
        mine = WholeDropout(like, batch)(views[:, batch.rows].flatten(0, 1).to(memory_format=order))
        assert_close(mine.unflatten(0, (num_views, -1)), expected[:, batch.rows], rtol=0, atol=0)


def test_dropout_in_place_is_by_the_kernel_in_place():
    """(Which is another one on a GPU.)"""
    assert WholeDropout(nn.Dropout(0.3, inplace=True), WholeBatch(Share(rank=0, size=2))).inplace


def test_a_module_under_two_names_sees_whole_batches_under_both():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5))
    network.append(network[1])
    see_whole_batches(network, WholeBatch(Share(rank=0, size=2)))
    assert isinstance(network[1], WholeDropout)
    assert network[1] is network[2]


@pytest.mark.parametrize("num_views", [1, 2])
def test_stochastic_depth_leaves_out_the_images_that_one_process_would(num_views):
    count, size = 10, 3
    views = torch.ones(num_views, count, 4, 2, 2)
    like = StochasticDepth(0.5, mode="row")
    torch.manual_seed(0)
    expected = like(views.flatten(0, 1)).unflatten(0, (num_views, count))
    assert 0 < int((expected == 0).sum()) < expected.numel()
    for rank in range(size):
        batch = WholeBatch(Share(rank=rank, size=size))
        batch.count = count
        torch.manual_seed(0)
        mine = WholeStochasticDepth(like, batch)(views[:, batch.rows].flatten(0, 1))
        assert_close(mine.unflatten(0, (num_views, -1)), expected[:, batch.rows], rtol=0, atol=0)
