"""Projected gradients against the formula written out for one long vector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.training.crew import Crew
from gcc_search.training.learner import Learner
from gcc_search.training.networks import Network, SmallClassifier, SmallConvNet
from gcc_search.training.projection import is_projected, leave_projected, projected
from gcc_search.training.steps import Shown, Steps
from gcc_search.training.terms import LossTerms, loss_terms
from tests.mates import Mates

BOTH_TERMS = Explanation(alpha=1.0, beta=0.1, opposing="projected")
# Batches on which the gradients of an untrained network oppose each other, and on which they do not.
OPPOSING, AGREEING = 0, 1


def test_what_opposes_is_taken_away():
    """g_e . g_c = -11 and |g_c|^2 = 25."""
    of_classes = [torch.tensor([3.0], dtype=torch.float64), torch.tensor([[4.0, 0.0]], dtype=torch.float64)]
    of_maps = [torch.tensor([-1.0], dtype=torch.float64), torch.tensor([[-2.0, 5.0]], dtype=torch.float64)]
    first, second = projected(of_classes, of_maps)
    assert_close(first, torch.tensor([3 - 1 + 11 / 25 * 3], dtype=torch.float64), rtol=0, atol=1e-15)
    assert_close(second, torch.tensor([[4 - 2 + 11 / 25 * 4, 5.0]], dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", range(8))
def test_the_result_opposes_cross_entropy_never_and_is_the_sum_where_nothing_does(seed):
    generator = torch.Generator().manual_seed(seed)
    of_classes, of_maps = (
        [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (2, 2, 2))] for _ in range(2)
    )
    along, square = dot(of_maps, of_classes), dot(of_classes, of_classes)
    found = projected(of_classes, of_maps)
    assert dot(found, of_classes) == pytest.approx(float(square + along.clamp(min=0)), rel=1e-5)
    if along >= 0:
        assert_close(found, [one + other for one, other in zip(of_classes, of_maps, strict=True)], rtol=0, atol=0)


def test_both_cases_are_among_these():
    generators = [torch.Generator().manual_seed(seed) for seed in range(8)]
    signs = {bool(torch.randn(25, generator=one) @ torch.randn(25, generator=one) < 0) for one in generators}
    assert signs == {True, False}


def test_where_cross_entropy_has_no_gradient_the_explanations_is_left():
    of_maps = [torch.tensor([1.0, -2.0])]
    assert torch.equal(*projected([torch.zeros(2)], of_maps), *of_maps)


def dot(some: list[Tensor], others: list[Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in some]) @ torch.cat([other.flatten() for other in others])


def make_network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallClassifier(SmallConvNet(5)).double().train()


def make_shown(seed: int, count: int = 6) -> Shown:
    generator, frame = torch.Generator().manual_seed(seed), torch.full((count,), 32)
    x = torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=generator)
    moved = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)
    return Shown(x=x, labels=torch.arange(count) % 5, moved=moved, photometry=None, matrices=None)


def terms_of(network: Network, seed: int, explanation: Explanation) -> LossTerms:
    return loss_terms(network, *make_shown(seed).given(explanation))


def vectors_of(network: Network, terms: LossTerms) -> tuple[Tensor, Tensor]:
    """g_c and g_e at alpha 1 and beta 0.1."""
    weighed = [(1.0, terms.consistency), (0.1, terms.sparsity)]
    explanation = sum(weight * term.mean() for weight, term in weighed if term is not None)
    found = []
    for loss in (terms.cross_entropy.mean(), explanation):
        gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, materialize_grads=True)
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return found[0], found[1]


def left_with(network: Network) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("seed", [OPPOSING, AGREEING])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.0},
        {"alpha": 0.0, "beta": 0.1},
        {"distance": "correlation"},
        {"ce_on_views": "both"},
        {"detach": "second-view"},
        # Nothing of the explanation reaches the head's weights.
        {"detach": "head"},
    ],
)
def test_gradients_that_are_left_are_the_formulas(changes, seed):
    explanation, network = BOTH_TERMS.model_copy(update=changes), make_network()
    terms = terms_of(network, seed, explanation)
    of_classes, of_maps = vectors_of(network, terms)
    leave_projected(Learner(network, loss_terms), *terms.parts(1.0, 0.1))
    share = (of_maps @ of_classes).clamp(max=0) / (of_classes @ of_classes)
    assert_close(left_with(network), of_classes + of_maps - share * of_classes, rtol=1e-9, atol=1e-12)


def test_where_nothing_opposes_gradients_are_those_that_are_kept():
    kept, network = make_network(), make_network()
    terms_of(kept, AGREEING, BOTH_TERMS).total(1.0, 0.1).backward()
    terms = terms_of(network, AGREEING, BOTH_TERMS)
    of_classes, of_maps = vectors_of(network, terms)
    assert of_maps @ of_classes > 0
    leave_projected(Learner(network, loss_terms), *terms.parts(1.0, 0.1))
    assert_close(left_with(network), left_with(kept), rtol=1e-9, atol=1e-12)


def test_where_something_opposes_they_are_others():
    kept, network = make_network(), make_network()
    terms_of(kept, OPPOSING, BOTH_TERMS).total(1.0, 0.1).backward()
    terms = terms_of(network, OPPOSING, BOTH_TERMS)
    of_classes, of_maps = vectors_of(network, terms)
    assert of_maps @ of_classes < 0
    leave_projected(Learner(network, loss_terms), *terms.parts(1.0, 0.1))
    assert left_with(network) @ of_classes == pytest.approx(float(of_classes @ of_classes))
    assert not torch.allclose(left_with(network), left_with(kept))


def test_counted_pixels_leave_cross_entropys():
    explanation = Explanation(beta=1.0, p=0.0, sparsity="paper", opposing="projected")
    kept, network = make_network(), make_network()
    terms_of(kept, OPPOSING, explanation).cross_entropy.mean().backward()
    leave_projected(Learner(network, loss_terms), *terms_of(network, OPPOSING, explanation).parts(0.0, 1.0))
    assert_close(left_with(network), left_with(kept), rtol=0, atol=0)


def test_blocks_that_are_computed_again_leave_the_same():
    found = []
    for is_recomputed in (False, True):
        network = make_network()
        network.is_recomputed = is_recomputed
        leave_projected(Learner(network, loss_terms), *terms_of(network, OPPOSING, BOTH_TERMS).parts(1.0, 0.1))
        found.append([left_with(network), *network.buffers()])
    assert_close(found[1], found[0], rtol=0, atol=0)


def test_parts_add_up_to_the_total():
    terms = terms_of(make_network(), OPPOSING, BOTH_TERMS)
    for of in (None, 4.5):
        assert_close(sum(terms.parts(3.0, 5.0, of=of)), terms.total(3.0, 5.0, of=of))


def test_a_baseline_has_nothing_to_project():
    assert not is_projected(Explanation(opposing="projected"))
    assert not is_projected(Explanation(alpha=1.0))
    assert is_projected(Explanation(alpha=1.0, opposing="projected"))
    assert is_projected(Explanation(beta=1.0, opposing="projected"))


@pytest.fixture(scope="module")
def mates():
    mates = Mates()
    yield mates
    mates.end()


def after_steps(crew: Crew | None, count: int, explanation: Explanation) -> list[Tensor]:
    """The sums of two steps on `count` images, and the network's state after them."""
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    learner = Learner(network, loss_terms, optimizer=optimizer, crew=crew)
    network.train()
    steps = Steps(learner, optimizer, explanation, alpha=1.0, beta=0.1)
    sums = []
    for seed in (OPPOSING, AGREEING):
        whole, rows = make_shown(seed, count), learner.begin(count)
        shown = Shown(
            x=whole.x[rows], labels=whole.labels[rows], moved=whole.moved.select(rows), photometry=None, matrices=None
        )
        sums.append(steps.take(shown, of=count).values())
    return [*sums, *network.model.state_dict().values()]


def shares_and_average(crew: Crew) -> tuple[Tensor, Tensor]:
    """A gradient of cross-entropy, of this process's share and of all."""
    network = make_network()
    learner = Learner(network, loss_terms, optimizer=torch.optim.SGD(network.parameters()), crew=crew)
    whole, rows = make_shown(OPPOSING), learner.begin(6)
    with learner.unaveraged():
        terms = learner.terms(whole.x[rows], whole.labels[rows], whole.moved.select(rows), Explanation())
    terms.cross_entropy.mean().backward()
    gradient = network.model.fc.weight.grad
    assert gradient is not None
    share = gradient.clone()
    learner.average([gradient])
    return share, gradient


def test_gradients_are_a_shares_own_until_they_are_averaged(mates):
    (one, average), (other, same) = mates.run(2, shares_and_average)
    assert not torch.allclose(one, other)
    assert_close(average, (one + other) / 2)
    assert_close(same, average, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "count", "explanation"),
    [
        (2, 6, BOTH_TERMS),
        (3, 7, BOTH_TERMS),
        # Fewer images than processes: each takes them all.
        (3, 2, BOTH_TERMS),
        (2, 6, BOTH_TERMS.model_copy(update={"detach": "second-view"})),
        (2, 6, Explanation(opposing="projected")),
    ],
)
def test_steps_of_several_processes_are_those_of_one(mates, size, count, explanation):
    alone = after_steps(None, count, explanation)
    for found in mates.run(size, after_steps, count, explanation):
        assert_close(found, alone, rtol=1e-8, atol=1e-9)
