"""A step's gradient without what of the explanation's points against that of cross-entropy.

One-sided gradient surgery (PCGrad, Yu et al., NeurIPS 2020): with g_c of L_CE and g_e of alpha L_C + beta L_S, over all
parameters as one vector each,

    g = g_c + g_e - min(0, g_e . g_c) / |g_c|^2 g_c

so that g . g_c is never below |g_c|^2: to first order no step is worse for cross-entropy than one without explanation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcc_search.settings import Explanation
from gcc_search.training.learner import Learner
from gcc_search.training.terms import LossTerms


def is_projected(explanation: Explanation) -> bool:
    """Whether there is a gradient of the explanation to project, and it is asked for."""
    return explanation.opposing == "projected" and (explanation.alpha > 0 or explanation.beta > 0)


def leave_projected(learner: Learner[LossTerms], cross_entropy: Tensor, explanation: Tensor) -> None:
    """Leaves the gradient with the network's parameters, which have none before; averaged over all processes.

    Takes two passes back through the network, and no value to the host: a CUDA graph can hold it.

    Args:
        cross_entropy, explanation: `LossTerms.parts` of terms that are `Learner.unaveraged`.
    """
    cross_entropy.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    # Maps are made of the features and the head that cross-entropy is on: they reach no other parameters.
    parameters = [parameter for parameter in learner.module.parameters() if parameter.grad is not None]
    of_classes = _take(parameters)
    # Counted pixels have none.
    if explanation.requires_grad:
        explanation.backward()  # type: ignore[no-untyped-call]
    of_maps = _take(parameters)
    learner.average([*of_classes, *of_maps])
    for parameter, gradient in zip(parameters, projected(of_classes, of_maps), strict=True):
        parameter.grad = gradient


def projected(of_classes: list[Tensor], of_maps: list[Tensor]) -> list[Tensor]:
    """g of g_c and g_e, parameter by parameter; where g_c is 0, g_e."""
    opposing = _dot(of_maps, of_classes).clamp(max=0)
    square = _dot(of_classes, of_classes)
    summed = torch._foreach_mul(of_classes, 1 - opposing / square.clamp(min=torch.finfo(square.dtype).tiny))
    torch._foreach_add_(summed, of_maps)
    return list(summed)


def _dot(some: list[Tensor], others: list[Tensor]) -> Tensor:
    return torch.stack([product.sum() for product in torch._foreach_mul(some, others)]).sum()


def _take(parameters: Sequence[torch.nn.Parameter]) -> list[Tensor]:
    """The parameters' gradients, zeros where there are none, which they have no longer."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return gradients
