import io

import numpy as np
import torch
from PIL import Image

from gcc_search.saliency.geometry import Transforms, move_heatmaps
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.saliency.ssim import structural_similarity
from gcc_search.settings import TrialSettings
from gcc_search.training.evaluation import measure
from gcc_search.training.examples import NUM_EXAMPLES, example_columns, example_indices, to_pixels
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.trial import evaluation_of


def kept(tiny_trial: TrialSettings, shapes, *, seed: int = 7):
    passes = Passes(build_network("convnet_small", num_classes=len(shapes.classes), weights="none", seed=seed))
    evaluation = evaluation_of(tiny_trial, torch.device("cpu"), insertion=False)
    measured = measure(passes, shapes.test, evaluation)
    return measured, evaluation, example_columns(passes, shapes.test, evaluation, measured)


def test_a_few_images_are_kept_with_maps_of_both_views(tiny_trial, shapes):
    _, _, columns = kept(tiny_trial, shapes)
    assert len(columns["index"]) == NUM_EXAMPLES < len(shapes.test)
    assert columns["name"] == [shapes.test.names[index] for index in columns["index"]]
    cells = columns["rows"][0] ** 2
    assert {len(row) for row in (*columns["map"], *columns["moved_map"])} == {cells}


def test_every_network_keeps_the_same_images_under_the_same_transforms(tiny_trial, shapes):
    (_, _, one), (_, _, other) = kept(tiny_trial, shapes), kept(tiny_trial, shapes, seed=8)
    for name in ("index", "picture", "crop", "flipped"):
        assert one[name] == other[name]
    assert one["map"] != other["map"]


def test_the_kept_maps_are_those_that_were_measured(tiny_trial, shapes):
    measured, _, columns = kept(tiny_trial, shapes)
    side = columns["rows"][0]
    maps, moved_maps = (upsample(torch.tensor(columns[name]).view(-1, side, side), 32) for name in ("map", "moved_map"))
    transforms = Transforms(
        boxes=torch.tensor(columns["crop"], dtype=torch.float64), flips=torch.tensor(columns["flipped"])
    )
    scores = structural_similarity(normalise(move_heatmaps(transforms, maps, 32)), normalise(moved_maps))
    torch.testing.assert_close(scores.double(), measured["consistency"][columns["index"]], atol=1e-4, rtol=0)
    assert columns["consistency"] == measured["consistency"][columns["index"]].tolist()


def test_pictures_show_the_images_as_the_network_sees_them(tiny_trial, shapes):
    _, evaluation, columns = kept(tiny_trial, shapes)
    shown = to_pixels(evaluation.show(shapes.test, torch.tensor(columns["index"]))).numpy()
    opened = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in columns["picture"]])
    assert opened.shape == shown.shape
    assert np.abs(opened.astype(int) - shown).mean() < 8


def test_a_small_test_split_is_kept_whole():
    assert example_indices(3, seed=0).tolist() == [0, 1, 2]
