"""Images as networks see them, normalised as ImageNet's weights expect, and their colours in [0, 1]."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gcc_search.saliency.photometry import Photometry, apply_photometry
from gcc_search.saliency.shapes import Images

# ImageNet's channel means and standard deviations, as torchvision's weights expect them.
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)


def recoloured(images: Images, photometry: Photometry) -> Images:
    """Normalised images with new colours and blurs, normalised and laid out in memory as they were.

    What of them is beyond [0, 1] as a colour is cut off.
    """
    mean, std = _channels(images.device)
    colours = apply_photometry(photometry, torch.addcmul(mean, images, std).clamp(0, 1))
    return torch.empty_like(images).copy_((colours - mean) / std)


@functools.cache
def _channels(device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and standard deviations, kept where a CUDA graph can read them."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(device) for values in (CHANNEL_MEAN, CHANNEL_STD))
    return mean, std
