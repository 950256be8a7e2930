"""Names for the tensors of this package. Shapes are checked under pytest only (`--jaxtyping-packages`)."""

from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channels height width"]
SizedImages = Float[Tensor, "batch channels {size} {size}"]
"""Images of the size that the function's own argument `size` asks for."""
States = Float[Tensor, "states channels height width"]
"""Images, each in several states of insertion and deletion."""
FeatureMaps = Float[Tensor, "batch features rows columns"]
Tokens = Float[Tensor, "batch tokens features"]
Features = Float[Tensor, "batch *rest"]
"""Feature maps or tokens: what a network's logits and maps are made of."""
Pooled = Float[Tensor, "batch features"]
RawMaps = Float[Tensor, "batch rows columns"]
"""Signed Grad-CAM maps at the network's own resolution, 7 x 7 for most networks at 224 pixels."""
TwiceRawMaps = Float[Tensor, "twice rows columns"]
"""Raw maps of a batch's first views, then of its second ones."""
Heatmaps = Float[Tensor, "batch height width"]
"""Maps at the resolution of the image."""
SizedHeatmaps = Float[Tensor, "batch {size} {size}"]
SquareMaps = Float[Tensor, "batch side side"]
Masks = Bool[Tensor, "batch height width"]
"""Which pixels of a heatmap count."""
Frames = UInt8[Tensor, "batch channels side side"]
"""Square images as they are stored, 0 to 255."""
Turns = Float64[Tensor, "batch 2 2"]
"""One matrix per image, of (row, column)."""
Shifts = Float64[Tensor, "batch 2"]
"""Rows, columns, in pixels."""
Regions = Float[Tensor, "batch height width"]
"""Share of each pixel that lies inside a box or mask, in [0, 1]."""
Logits = Float[Tensor, "batch classes"]
Classes = Int[Tensor, "batch"]
PerImage = Float[Tensor, "batch"]
Claims = Bool[Tensor, "batch"]
"""One yes or no per image."""
Lengths = Int[Tensor, "batch"]
"""One height or width per image, in pixels."""
Boxes = Float[Tensor, "batch 4"]
"""Top, left, height, width as fractions of the frame."""
Photometries = Float[Tensor, "batch 5"]
"""Brightness, contrast, saturation, hue and blur, as `photometry.Photometry` has them."""
Order = Int[Tensor, "batch"]
"""A permutation of the images."""
Orders = Int[Tensor, "batch pixels"]
"""A permutation of the pixels of each image."""
Curves = Float[Tensor, "batch points"]
