"""Signed, differentiable Grad-CAM: M = (1 / HW) sum_k v_k A_k. No network is differentiated twice.

Of a network "features -> global average pool -> head" the score depends on the feature maps A only through their mean
g, so its gradient is the same at every position, and v = d y_c / d g. Of a vision transformer with a class token, its
last block is all that is differentiated. Differs from `pytorch_grad_cam.GradCAM` in keeping the sign and the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcc_search.saliency.products import multiply
from gcc_search.saliency.shapes import Classes, FeatureMaps, Logits, Pooled, RawMaps


def gradcam(features: FeatureMaps, head: nn.Module, classes: Classes, *, detach_head: bool = False) -> RawMaps:
    """Map of each image for its class, signed, float32 (float64 if `features` are), at the features' resolution.

    For a linear head the cells of a map sum to logit minus bias, exactly. Gradients flow into `features` and into the
    head's parameters; autocast does not apply.

    Args:
        features: output of the last stage before pooling.
        head: maps the pooled (batch, features) tensor to logits; any module whose rows do not depend on each other.
            A head with dropout in train mode draws a mask of its own here.
        classes: whose logit is explained.
        detach_head: treat v as a constant, so that a loss on the map moves the features only.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # (Not a layer that makes something else of its weights, as one of cosines.)
    if isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward:
        # Not indexed, which sorts on a GPU to add up gradients.
        weights = functional.embedding(classes, head.weight).to(features.dtype)
        weights = weights.detach() if detach_head else weights
    elif torch.is_grad_enabled() and not detach_head:
        weights = _score_gradient(head, features.mean((2, 3)), classes, keep_graph=True)
    else:
        # Evaluation runs without grad or in inference mode; the head's own gradient is needed all the same.
        with torch.inference_mode(False), torch.enable_grad():
            weights = _score_gradient(head, features.detach().mean((2, 3)), classes, keep_graph=False)
    return weighted(features, weights)


def gradcam_of_patches(
    read: Sequence[Tensor], logits_of: Callable[..., Logits], classes: Classes, *, detach_head: bool = False
) -> RawMaps:
    """Map of each image for its class, signed, where the score depends on each patch of A in a way of its own.

    With v_k the sum over patches of d y_c / d A_k, the map is M = (1 / HW) sum_k v_k A_k, as above. And v is the
    gradient by one vector that is added to all patches alike: a small tensor, whatever the number of patches.

    Args:
        read: A, as feature maps in full precision, then what else the score depends on, such as a class token.
        logits_of: logits of all of `read` and of the (batch, features) vectors that are added; differentiable twice.
        detach_head: treat v as a constant.
    """
    patches = read[0]
    shift = patches.new_zeros(patches.shape[:2])
    if torch.is_grad_enabled() and not detach_head:
        weights = _score_gradient(functools.partial(logits_of, *read), shift, classes, keep_graph=True)
    else:
        with torch.inference_mode(False), torch.enable_grad():
            constant = [tensor.detach().clone() for tensor in (*read, shift)]
            weights = _score_gradient(
                functools.partial(logits_of, *constant[:-1]), constant[-1], classes, keep_graph=False
            )
    return weighted(patches, weights)


def weighted(features: FeatureMaps, weights: Pooled) -> RawMaps:
    """The maps (1 / HW) sum_k v_k A_k of v, (batch, features)."""
    cells = multiply((weights / features.shape[2:].numel())[:, None], features.flatten(2))
    return cells.view(len(features), *features.shape[2:])


def _score_gradient(head: Callable[[Pooled], Logits], pooled: Pooled, classes: Classes, *, keep_graph: bool) -> Pooled:
    """v = d y_c / d g, differentiable where `keep_graph`."""
    if not pooled.requires_grad:
        pooled.requires_grad_()
    with torch.autocast(pooled.device.type, enabled=False):
        scores = head(pooled).gather(1, classes[:, None])
        # Inside, too: autocast would round this backward pass, which runs in the caller's thread.
        (gradient,) = torch.autograd.grad(scores.sum(), pooled, create_graph=keep_graph)
    return gradient
