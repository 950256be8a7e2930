"""Measures of METHOD's table: fixed transforms, paired partners, and what input-independent maps are worth."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from gcc_search.results.schema import IMAGES
from gcc_search.saliency import resampling, scores
from gcc_search.saliency.geometry import apply_transforms, draw_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.saliency.ssim import pearson_correlation, structural_similarity
from gcc_search.seeding import derive_seed
from gcc_search.training.evaluation import INSERTION_PASSES, _map_columns, explain, measure, summarise
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.map_scores import Replay, similarity
from gcc_search.training.network import Network, PooledNetwork
from gcc_search.training.passes import Passes, Seen
from gcc_search.training.showing import prepare

CPU = torch.device("cpu")


def make_evaluation(**changes) -> Evaluation:
    chosen = {"image_size": 32, "crop": 1.0, "seed": 0, "batch_size": 16, "device": CPU, "insertion_images": 0}
    return Evaluation(**(chosen | changes))


@pytest.fixture(scope="module")
def network(differing_network) -> Network:
    return differing_network


@pytest.fixture(scope="module")
def columns(network, shapes):
    return measure(Passes(network), shapes.test, make_evaluation(insertion_images=3))


class Painter(PooledNetwork):
    """Gives the same feature map whatever it is shown."""

    def __init__(self, painted: torch.Tensor) -> None:
        super().__init__(nn.Linear(1, 8))
        self.painted = painted
        with torch.no_grad():
            self.model.weight[:, 0] = torch.arange(8.0)
            self.model.bias.zero_()

    def features(self, images):
        return self.painted.expand(len(images), 1, *self.painted.shape)

    def map_side(self, image_size):
        return len(self.painted)

    @property
    def head(self) -> nn.Module:
        return self.model


def test_a_column_is_there_for_every_column_of_the_table(columns, shapes):
    assert columns.keys() | {"name"} == set(IMAGES.names)
    assert {len(values) for values in columns.values()} == {len(shapes.test)}
    assert columns["index"].tolist() == list(range(len(shapes.test)))


def test_an_image_is_scored_as_if_it_were_alone(network, shapes, columns):
    evaluation, count = make_evaluation(), len(shapes.test)
    for i in range(count):
        expected = reference_scores(network, shapes.test, evaluation, torch.tensor([i]))
        found = torch.stack([columns[name][i].double() for name in expected])
        assert_close(found, torch.cat([*expected.values()]).double(), rtol=0, atol=1e-4, equal_nan=True)


def reference_scores(network, images, evaluation, index):
    """Measures of one image by themselves, for the class that the network sees in the whole image."""
    x, t = evaluation.show(images, index), evaluation.transforms(len(images)).select(index)
    with torch.no_grad():
        moved = apply_transforms(t, x, 32)
        logits, features, on_moved = network(x), network.features(torch.cat([x, moved])), network(moved).argmax(1)
    raw, raw_moved = gradcam(features, network.head, logits.argmax(1).repeat(2)).detach().split(1)
    own_moved = gradcam(features[1:], network.head, on_moved).detach()
    full, regions = upsample(raw, 32), evaluation.regions(images, index)
    pair = normalise(move_heatmaps(t, full, 32)), normalise(upsample(raw_moved, 32))
    return {
        "predicted": logits.argmax(1),
        "confidence": logits.softmax(1).amax(1),
        "correct": logits.argmax(1) == images.labels[index],
        "consistency": structural_similarity(*pair),
        "own_consistency": structural_similarity(pair[0], normalise(upsample(own_moved, 32))),
        "moved_correct": on_moved == images.labels[index],
        "correlation": pearson_correlation(*pair),
        "gini": scores.gini_index(raw),
        "mass_half": scores.mass_half(normalise(full)),
        "norm_p0": scores.heatmap_norm(normalise(full), 0),
        "norm_p1": scores.heatmap_norm(normalise(full), 1),
        "norm_p2": scores.heatmap_norm(normalise(full), 2),
        "crop_mass": scores.crop_mass(full.relu(), t),
        "box_mass": scores.region_mass(full.relu(), regions),
        "pointing": scores.pointing(full, regions),
        "box_share": regions.mean((1, 2)),
    }


def test_the_own_class_of_the_second_view_is_left_out_where_nobody_asks(network, shapes, columns):
    fewer = measure(Passes(network), shapes.test, make_evaluation(insertion_images=3), own_classes=False)
    assert fewer["own_consistency"].isnan().all()
    assert summarise(fewer)["own_consistency"] is None
    assert_close(fewer | {"own_consistency": columns["own_consistency"]}, columns, rtol=0, atol=0, equal_nan=True)


def test_some_image_is_another_class_once_it_is_transformed(network, shapes):
    """Else the tests beside this one could not tell whose class is explained."""
    evaluation = make_evaluation()
    x = evaluation.show(shapes.test, torch.arange(len(shapes.test)))
    moved = apply_transforms(evaluation.transforms(len(x)), x, 32)
    assert (network(x).argmax(1) != network(moved).argmax(1)).any()


def test_transforms_are_drawn_as_in_the_paper_by_seed_and_image():
    evaluation, frame = make_evaluation(seed=5), torch.tensor([32])
    generator = torch.Generator().manual_seed(derive_seed(5, 2, "evaluation transform"))
    expected = draw_transforms(frame, frame, scale=(0.08, 1.0), generator=generator)
    assert torch.equal(evaluation.transforms(3).boxes[2:], expected.boxes)


def test_chance_is_the_partners_map_under_the_same_transform(network, shapes, columns):
    evaluation, count = make_evaluation(), len(shapes.test)
    x, t = evaluation.show(shapes.test, torch.arange(count)), evaluation.transforms(count)
    cycle, nothing = evaluation.cycle(count), torch.zeros(count, dtype=torch.bool)
    moved, partners = apply_transforms(t, x, 32), scores.choose_partners(cycle, nothing)
    with torch.no_grad():
        predicted = network(x).argmax(1)
        maps, moved_maps = (gradcam(network.features(views), network.head, predicted) for views in (x, moved))
    other = normalise(move_heatmaps(t, upsample(maps[partners], 32), 32))
    expected = structural_similarity(other, normalise(upsample(moved_maps, 32)))
    assert_close(columns["chance"].float(), expected, rtol=0, atol=1e-5)


def test_chance_is_against_maps_that_are_not_constant_whatever_the_second_views_are():
    """Of four images, of which the first has a constant map and a second view's that is not."""
    random = torch.Generator().manual_seed(0)
    maps, moved_maps = torch.randn(2, 4, 4, 4, generator=random)
    maps[0], moved_maps[2] = 1.0, 1.0
    nothing = torch.zeros(4)
    seen = Seen(nothing.long(), nothing, maps, nothing.long(), moved_maps, moved_maps)
    frame = torch.full((4,), 32)
    transforms = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=random)
    replay = Replay.of(transforms, 4, 32)
    found = _map_columns(seen, torch.arange(4), iter([(slice(0, 4), replay, None)]))
    assert found["degenerate"].tolist() == [True, False, False, False]
    partners = scores.choose_partners(torch.arange(4), found["degenerate"].bool())
    assert 0 not in partners.tolist()
    expected = similarity(maps[partners], moved_maps, replay)
    assert_close(found["chance"], expected.to(found["chance"].dtype))


def test_the_batch_size_changes_nothing_but_rounding(network, shapes, columns):
    others = measure(Passes(network), shapes.test, make_evaluation(batch_size=5, insertion_images=3))
    for name, values in columns.items():
        assert_close(
            others[name], values, rtol=0, atol=1e-4, equal_nan=True, msg=lambda text, name=name: f"{name} {text}"
        )


def test_maps_compared_by_cells_are_those_compared_by_pixels(network, shapes, columns, monkeypatch):
    # Maps this small are compared by their pixels on a CPU.
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    by_cells = measure(Passes(network), shapes.test, make_evaluation())
    for name in ("consistency", "chance"):
        assert not torch.equal(by_cells[name], columns[name])
        assert_close(by_cells[name], columns[name], rtol=0, atol=1e-5)


def test_measuring_moves_no_weight_and_no_statistic(network, shapes):
    network.train()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    measure(Passes(network), shapes.test, make_evaluation())
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_transform_of_an_image_ignores_how_many_there_are():
    evaluation = make_evaluation()
    few, many = evaluation.transforms(3), evaluation.transforms(7)
    assert torch.equal(few.boxes, many.boxes[:3])
    assert torch.equal(few.flips, many.flips[:3])


def test_another_seed_draws_other_transforms_and_partners():
    one, other = make_evaluation(), make_evaluation(seed=1)
    assert not torch.equal(one.transforms(8).boxes, other.transforms(8).boxes)
    assert not torch.equal(one.cycle(8), other.cycle(8))


@given(st.integers(1, 300), st.integers())
def test_every_image_is_in_the_cycle_once(count, seed):
    assert sorted(make_evaluation(seed=seed).cycle(count).tolist()) == list(range(count))


def test_images_are_shown_whole_where_the_crop_is_one(shapes):
    batch = torch.arange(4)
    shown = make_evaluation().show(shapes.test, batch)
    assert_close(shown, prepare(shapes.test.pixels(batch), CPU), rtol=0, atol=1e-5)


def test_images_are_cropped_to_their_centre(shapes):
    batch = torch.arange(4)
    shown = make_evaluation(crop=0.5, image_size=16).show(shapes.test, batch)
    assert_close(shown, prepare(shapes.test.pixels(batch), CPU)[:, :, 8:24, 8:24], rtol=0, atol=1e-5)


def test_the_box_share_is_the_masks_area(shapes, columns):
    masks = shapes.test.masks[shapes.test.rows].double() / 255
    assert_close(columns["box_share"], masks.mean((1, 2)), rtol=0, atol=1e-6)


def test_images_without_boxes_have_no_box_measures(network, shapes):
    bare = replace(shapes.test, masks=None, boxes=torch.full_like(shapes.test.boxes, torch.nan))
    columns = measure(Passes(network), bare, make_evaluation())
    summary = summarise(columns)
    for name in ("box_mass", "pointing", "box_share"):
        assert columns[name].isnan().all()
        assert summary[name] is None


def test_box_mass_pointing_and_box_share_are_over_the_same_images_where_maps_are_silent(network, shapes):
    silent = copy.deepcopy(network)
    with torch.no_grad():
        # Of features that are never below 0.
        silent.model.fc.weight.abs_().neg_()
    columns = measure(Passes(silent), shapes.test, make_evaluation())
    assert (columns["gini"] == 0).all()
    assert (columns["degenerate"] == 0).all()
    assert (columns["box_mass"] == 0).all()
    assert summarise(columns)["box_mass"] == 0.0
    for name in ("pointing", "box_share"):
        assert torch.equal(columns[name].isnan(), columns["box_mass"].isnan())


@pytest.mark.parametrize(("asked", "scored"), [(0, 0), (3, 3), (99, 16)])
def test_so_many_images_as_asked_for_are_inserted(network, shapes, asked, scored):
    columns = measure(Passes(network), shapes.test, make_evaluation(insertion_images=asked))
    for name in ("iauc", "dauc", "iauc_start", "iauc_end"):
        assert int((~columns[name].isnan()).sum()) == scored
    assert (summarise(columns)["iauc"] is None) == (scored == 0)


def test_insertion_ends_at_the_confidence_of_the_whole_image(columns):
    known = ~columns["iauc_end"].isnan()
    assert_close(columns["iauc_end"][known], columns["confidence"][known], rtol=0, atol=1e-5)


def test_progress_counts_forward_passes_up_to_their_number(network, shapes):
    calls = []
    evaluation = make_evaluation(batch_size=8, insertion_images=2)
    measure(Passes(network), shapes.test, evaluation, on_step=lambda done, total: calls.append((done, total)))
    total = 2 * 16 + INSERTION_PASSES * 2
    assert calls[0] == (16, total)
    assert calls[-1] == (total, total)
    assert sorted(calls) == calls


@pytest.mark.parametrize("cell", [(0, 0), (3, 3), (1, 2)])
def test_a_map_of_one_cell_is_consistent_and_worth_nothing(shapes, cell):
    painted = torch.zeros(4, 4)
    painted[cell] = 1
    summary = summarise(measure(Passes(Painter(painted)), shapes.test, make_evaluation()))
    assert summary["consistency"] > 0.3
    assert summary["corrected_consistency"] == pytest.approx(0, abs=1e-6)
    assert summary["degenerate_fraction"] == 0


def test_a_constant_map_is_perfectly_consistent_and_worth_nothing(shapes):
    summary = summarise(measure(Passes(Painter(torch.ones(4, 4))), shapes.test, make_evaluation()))
    assert (summary["consistency"], summary["chance"]) == (1, 1)
    assert summary["corrected_consistency"] == 0
    assert summary["degenerate_fraction"] == 1


def test_a_summary_is_the_mean_of_what_is_known(columns):
    halves = columns | {"gini": torch.tensor([0.25, math.nan, 0.75]), "crop_mass": torch.full((3,), math.nan)}
    summary = summarise(halves)
    assert summary["gini"] == 0.5
    assert summary["crop_mass"] is None


def test_a_summary_counts_accuracy_in_points_and_corrects_consistency(columns):
    summary = summarise(
        columns
        | {
            "correct": torch.tensor([True, False, True, True]),
            "consistency": torch.tensor([0.8, 0.9]),
            "chance": torch.tensor([0.7, 0.7]),
            "degenerate": torch.tensor([False, False]),
        }
    )
    assert summary["accuracy_points"] == 75
    assert summary["corrected_consistency"] == pytest.approx(0.5)
    assert {"index", "label", "predicted", "degenerate"}.isdisjoint(summary)


def test_without_maps_there_is_no_corrected_consistency(columns):
    unknown = torch.full((len(columns["index"]),), math.nan)
    assert summarise(columns | {"consistency": unknown, "chance": unknown})["corrected_consistency"] is None


def test_a_constant_map_adds_to_consistency_and_earns_nothing(columns):
    given = {
        "consistency": torch.tensor([0.8, 1.0, 0.7, 1.0]),
        "chance": torch.tensor([0.5, 0.1, 0.6, 0.3]),
        "degenerate": torch.tensor([False, True, False, True]),
    }
    summary = summarise(columns | given)
    assert summary["consistency"] == pytest.approx(0.875)
    assert summary["corrected_consistency"] == pytest.approx((0.3 + 0.1) / (0.5 + 0.9 + 0.4 + 0.7))


class Quitter(Painter):
    """A map of the image's own, but none for images that are dark."""

    def features(self, images):
        shown = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True).exp(), 4)
        return torch.where(images.mean((1, 2, 3), keepdim=True) > self.painted, shown, 1.0)

    def map_side(self, image_size):
        return 4


@pytest.fixture(scope="module")
def quitters(shapes):
    """A network without constant maps, and one whose maps are constant for about a third of the images."""
    brightness = make_evaluation().show(shapes.test, torch.arange(len(shapes.test))).mean((1, 2, 3))
    return [Passes(Quitter(threshold)) for threshold in (torch.tensor(-100.0), brightness.quantile(0.3))]


@pytest.fixture(scope="module")
def quitting(quitters, shapes):
    return [measure(passes, shapes.test, make_evaluation()) for passes in quitters]


def test_no_image_is_compared_with_a_constant_map_for_chance(quitters, quitting, shapes):
    some, count = quitting[1], len(shapes.test)
    is_constant = some["degenerate"]
    assert 0 < int(is_constant.sum()) < count / 2
    partners = scores.choose_partners(make_evaluation().cycle(count), is_constant)
    assert not is_constant[partners].any()
    explained = explain(quitters[1], shapes.test, make_evaluation())
    other = normalise(move_heatmaps(explained.transforms, upsample(explained.seen.maps[partners], 32), 32))
    expected = structural_similarity(other, normalise(upsample(explained.seen.moved_maps, 32)))
    assert_close(some["chance"].float(), expected, rtol=0, atol=1e-5)


def test_giving_up_on_images_raises_consistency_and_lowers_corrected_consistency(quitting):
    whole, some = map(summarise, quitting)
    assert some["consistency"] > whole["consistency"]
    assert some["corrected_consistency"] < whole["corrected_consistency"]
