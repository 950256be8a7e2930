"""The code on a model card: it makes the network and shows it an image as those were shown that it was scored on."""

from __future__ import annotations

import json

from gcc_search.model_file import ModelFacts
from gcc_search.plugins import bringers, import_line

# torchvision's vision transformers: pixels on a side of what their position embeddings are of, and of a patch.
VIT_IMAGE, VIT_PATCHES = 224, {"vit_b_16": 16, "vit_b_32": 32}

# What `decoding.decode` and `Evaluation.show` do, without gcc-search.
_CODE = """\
{imports}
import numpy
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

network = {network}
network.load_state_dict({weights})
network.eval()


def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        image = Image.fromarray((numpy.asarray(image) >> 8).astype("uint8"))
    image = image.convert("RGB")
    squashed = numpy.array(image.resize(({side}, {side}), Image.Resampling.BILINEAR))
    colours = torch.from_numpy(squashed).permute(2, 0, 1)[None] / 255
    colours = (colours - torch.tensor({mean}).view(3, 1, 1)) / torch.tensor({std}).view(3, 1, 1)
    places = (2 * torch.arange({size}, dtype=torch.float64) + 1) / {size} - 1
    rows, columns = (middle(places, {crop} * min(image.size) / length) for length in (image.height, image.width))
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None].float()
    return torch.nn.functional.grid_sample(colours, grid, padding_mode="border", align_corners=False)


def middle(places, share):
    reach = max(0, 1 - 1 / ({side} * share))
    return share * places.clamp(-reach, reach)


with torch.no_grad():
    probabilities = network(prepare("IMAGE.jpg")).softmax(1)[0]"""


def how_to_load(facts: ModelFacts, file: str) -> str:
    """Markdown: code that needs no gcc-search for torchvision's networks, and what it does in words. `file`: the
    weights' name."""
    size, side = facts.image_size, round(facts.image_size / facts.crop)
    code = _CODE.format(
        imports=_imports(facts),
        network=_call(facts),
        weights=_weights(facts, file),
        side=side,
        size=size,
        crop=facts.crop,
        mean=list(facts.mean),
        std=list(facts.std),
    )
    return f"""\
```python
{code}
```

This is how the test images were shown for the measures above. The whole image, as a viewer turns it, is squashed to
{side} x {side} pixels (with antialiasing); of these the middle square of the image as it was, {100 * facts.crop:g} % of
its short side wide, is sampled at {size} x {size} places (bilinear, without antialiasing), RGB in [0, 1], minus mean,
divided by standard deviation. Scaling the short side and cutting out the middle gives slightly other pixels, and now
and then another class.

`gcc-search evaluate {file} --data-root FOLDER` measures it again, `gcc-search explain {file} --images FILES`
draws its heatmaps."""


def _weights(facts: ModelFacts, file: str) -> str:
    read = f"load_file({json.dumps(file)})"
    if not _is_resized(facts):
        return read
    resize = "torchvision.models.vision_transformer.interpolate_embeddings"
    return f"{resize}({facts.image_size}, {VIT_PATCHES[facts.network]}, {read})"


def _is_resized(facts: ModelFacts) -> bool:
    """Whether the position embeddings are of another size, that of the published weights, than the images."""
    return facts.network in VIT_PATCHES and facts.image_size != VIT_IMAGE


def _imports(facts: ModelFacts) -> str:
    if facts.network == "convnet_small":
        return "from gcc_search.training.networks import SmallConvNet"
    return import_line(facts.network)[0] if bringers(facts.network) else "import torchvision"


def _call(facts: ModelFacts) -> str:
    count = len(facts.classes)
    if facts.network == "convnet_small":
        return f"SmallConvNet({count})"
    if bringers(facts.network):
        return f"{import_line(facts.network)[1]}({count}).model"
    asked = f"num_classes={count}" + (f", image_size={facts.image_size}" if _is_resized(facts) else "")
    return f"torchvision.models.{facts.network}({asked})"
