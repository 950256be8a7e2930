"""torchvision's vision transformers, whose class token decides. The last block is computed for that token alone.

Maps are of what the last block's attention reads, `encoder.layers[-1].ln_1`, without the class token; what the block
adds its results to is not part of it. Only the class token's row of the block's output reaches the head. So that row
alone has a query, and neither keys nor values are needed of each token: with q and W_k of one of the block's heads,
q . (W_k a + b_k) = (W_k' q) . a + q . b_k, the last of which is the same for all tokens and drops out of the softmax;
and the values' mean is W_v times the tokens' mean. That leaves a twentieth of the block, without an attention kernel
that could not be differentiated twice.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcc_search.saliency.gradcam import gradcam_of_patches
from gcc_search.saliency.shapes import Classes, FeatureMaps, Images, Logits, Pooled, RawMaps, Tokens
from gcc_search.training.network import Network

if TYPE_CHECKING:
    import torchvision
    from torchvision.models.vision_transformer import EncoderBlock


class VisionTransformerClassifier(Network):
    """Features are the tokens that enter the last block: the class token's, then those of patches, row by row.

    Images may have any number of patches. Position embeddings of another grid are what torchvision's
    `interpolate_embeddings` makes of the network's own, which stay as they are: for torchvision, an exported network is
    to go through that.
    """

    model: torchvision.models.VisionTransformer
    layer_of_classes = "heads.head"

    def __init__(self, model: torchvision.models.VisionTransformer) -> None:
        super().__init__(model)
        self.patch_size = model.patch_size
        self._patch_maps = nn.Identity()

    def _features(self, images: Images) -> Tokens:
        tokens: Tensor = _Tokens(self.model)(images)
        for block in self._encoder_blocks[:-1]:
            tokens = block(tokens)
        return tokens

    @property
    def blocks(self) -> list[nn.Module]:
        return [_Tokens(self.model), *self._encoder_blocks[:-1]]

    @property
    def _encoder_blocks(self) -> list[EncoderBlock]:
        return [*self.model.encoder.layers]

    @property
    def last_stage(self) -> nn.Module:
        return self._patch_maps

    def map_side(self, image_size: int) -> int:
        return image_size // self.patch_size

    def logits(self, features: Tokens) -> Logits:
        return self._logits_of(*self._read(features))

    def maps(self, features: Tokens, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        return gradcam_of_patches(self._read(features), self._logits_of, classes, detach_head=detach_head)

    def _read(self, features: Tokens) -> tuple[FeatureMaps, Pooled, Pooled]:
        """What the last block's attention reads, patches as maps and the class token, and what that token was."""
        read = self._encoder_blocks[-1].ln_1(features)
        side = math.isqrt(read.shape[1] - 1)
        return self.last_stage(read[:, 1:].mT.unflatten(2, (side, side))), read[:, 0], features[:, 0]

    def _logits_of(self, patches: FeatureMaps, token: Pooled, entered: Pooled, shift: Pooled | None = None) -> Logits:
        """Of what `_read` gives, and of what is added to each patch."""
        block = self._encoder_blocks[-1]
        left = entered + _attended(block.self_attention, token, patches.flatten(2), shift)
        left = left + block.mlp(block.ln_2(left))
        logits: Logits = self.model.heads(self.model.encoder.ln(left))
        return logits


def _attended(attention: nn.MultiheadAttention, token: Pooled, patches: Tensor, shift: Pooled | None) -> Pooled:
    """What the class token gets from itself and from patches (B, K, P), to each of which `shift` is added."""
    assert attention.in_proj_weight is not None, "tokens attend to each other: one width for all"
    heads, width = attention.num_heads, attention.head_dim
    of_queries, of_keys, of_values = attention.in_proj_weight.view(3, heads, width, -1)
    for_queries, _, for_values = attention.in_proj_bias.view(3, heads, width)
    queries = torch.einsum("bk,hdk->bhd", token, of_queries) + for_queries
    asked = torch.einsum("bhd,hdk->bhk", queries / math.sqrt(width), of_keys)
    of_patches = asked @ patches
    if shift is not None:
        of_patches = of_patches + asked @ shift[..., None]
    shares = torch.cat([asked @ token[..., None], of_patches], -1).softmax(-1)
    own, others = shares[..., :1], shares[..., 1:]
    seen = own * token[:, None] + others @ patches.mT
    if shift is not None:
        seen = seen + others.sum(-1, keepdim=True) * shift[:, None]
    values = torch.einsum("bhk,hdk->bhd", seen, of_values) + for_values
    attended: Tensor = attention.out_proj(values.flatten(1))
    return attended


class _Tokens(nn.Module):
    """The class token and one of each patch, with their positions."""

    def __init__(self, model: torchvision.models.VisionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images) -> Tokens:
        model = self.model
        patches = model.conv_proj(images)
        positions = _positions(model.encoder.pos_embedding, patches.shape[2], patches.shape[3])
        first = model.class_token.expand(len(images), -1, -1)
        return torch.cat([first, patches.flatten(2).mT], 1) + positions


def _positions(embedding: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings of the class token and of `height` x `width` patches, (1, 1 + h w, K)."""
    side = math.isqrt(embedding.shape[1] - 1)
    if (height, width) == (side, side):
        return embedding
    first, grid = embedding[:, :1], embedding[0, 1:].view(side, side, -1)
    # Products of matrices, not `interpolate`, whose gradient is not the same twice on a GPU.
    rows, columns = (_bicubic(side, size, grid.device, grid.dtype) for size in (height, width))
    with torch.autocast(embedding.device.type, enabled=False):
        resized = torch.einsum("rs,ct,stk->rck", rows, columns, grid)
    return torch.cat([first, resized.flatten(0, 1)[None]], 1)


@functools.cache
def _bicubic(source: int, target: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights of each of `source` values in each of `target`, (target, source), by torchvision's interpolation."""
    one_each = torch.eye(source, dtype=torch.float64)[None, :, :, None]
    # Beside each other in a dimension that stays as it is.
    wide = one_each.expand(-1, -1, -1, 2)
    resized = functional.interpolate(wide, (target, 2), mode="bicubic", align_corners=True)[0, :, :, 0]
    return resized.T.contiguous().to(device, dtype)
