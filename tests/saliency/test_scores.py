"""Per-image measures; the insertion game has a module of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from gcc_search.saliency.geometry import (
    Transforms,
    crop_shares,
    draw_transforms,
    move_heatmaps,
)
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.saliency.scores import (
    choose_partners,
    corrected_consistency,
    crop_mass,
    gini_index,
    heatmap_norm,
    mass_half,
    pointing,
    region_mass,
)
from gcc_search.saliency.ssim import structural_similarity


def one_cell(row, column, *, batch=1):
    maps = torch.zeros(batch, 7, 7)
    maps[:, row, column] = 1
    return maps


def region(top, bottom, left, right, *, size=14):
    regions = torch.zeros(1, size, size)
    regions[:, top:bottom, left:right] = 1
    return regions


def region_mass_of(maps, regions):
    return region_mass(upsample(maps, regions.shape[-1]).relu(), regions)


def crop_mass_of(maps, transforms, size):
    return crop_mass(upsample(maps, size).relu(), transforms)


def test_single_cell_has_the_greatest_gini_of_its_size():
    assert_close(gini_index(one_cell(2, 3)), torch.tensor([48 / 49]))


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0])
def test_uniform_and_empty_maps_have_gini_zero(value):
    assert torch.equal(gini_index(torch.full((2, 7, 7), value)), torch.zeros(2))


def test_gini_is_half_the_relative_mean_difference(generator):
    maps = torch.randn(4, 7, 7, generator=generator)
    cells = maps.relu().flatten(1)
    differences = (cells[:, :, None] - cells[:, None]).abs().mean((1, 2))
    assert_close(gini_index(maps), differences / (2 * cells.mean(1)))


def test_gini_ignores_scale_and_everything_below_zero(generator):
    maps = torch.randn(4, 7, 7, generator=generator)
    assert_close(gini_index(3 * maps), gini_index(maps))
    assert_close(gini_index(torch.where(maps < 0, -100.0, maps)), gini_index(maps))


def test_mass_half_is_the_share_of_pixels_above_a_half():
    assert_close(mass_half(torch.tensor([[[0.0, 0.5], [0.51, 1.0]]])), torch.tensor([0.5]))


@pytest.mark.parametrize(("p", "norm"), [(0, 2.0), (1, 7.0), (2, 5.0)])
def test_heatmap_norm_is_the_papers(p, norm):
    assert_close(heatmap_norm(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), p), torch.tensor([norm]))


def test_measures_carry_no_gradient(generator):
    maps = torch.rand(1, 14, 14, generator=generator, requires_grad=True)
    whole = region(0, 14, 0, 14)
    measures = [
        gini_index(maps),
        mass_half(maps),
        heatmap_norm(maps, 1),
        region_mass_of(maps, whole),
        pointing(maps, whole),
    ]
    assert not any(measure.requires_grad for measure in measures)


def test_consistency_no_better_than_chance_corrects_to_zero_and_perfect_to_one():
    assert corrected_consistency(0.9, 0.9) == 0
    assert corrected_consistency(1.0, 0.9) == 1
    assert corrected_consistency(0.95, 0.9) == pytest.approx(0.5)
    assert corrected_consistency(0.8, 0.9) < 0


def test_nothing_is_corrected_where_chance_is_certain():
    assert corrected_consistency(1.0, 1 - 1e-7) == 0


@pytest.mark.parametrize(
    ("raw", "least"), [(one_cell(0, 0, batch=64), 0.9), (torch.full((64, 7, 7), 2.5), 1.0)], ids=["corner", "constant"]
)
def test_map_that_ignores_the_image_scores_high_and_corrects_to_zero(raw, least, generator):
    sizes = torch.full((64,), 224)
    transforms = draw_transforms(sizes, sizes, scale=(0.08, 1.0), generator=generator)
    maps = upsample(raw, 224)
    moved, of_moved = normalise(move_heatmaps(transforms, maps, 224)), normalise(maps)
    of_another = normalise(move_heatmaps(transforms, maps.roll(1, 0), 224))
    consistency = float(structural_similarity(moved, of_moved).mean())
    chance = float(structural_similarity(of_another, of_moved).mean())
    assert consistency >= least
    assert corrected_consistency(consistency, chance) == 0


@given(st.data())
def test_partners_are_those_before_in_the_cycle_whose_maps_are_not_constant(data):
    cycle = data.draw(st.permutations(range(data.draw(st.integers(1, 9)))))
    is_constant = data.draw(st.lists(st.booleans(), min_size=len(cycle), max_size=len(cycle)))
    expected = {}
    for place, image in enumerate(cycle):
        before = [cycle[place - steps] for steps in range(1, len(cycle))]
        expected[image] = next((other for other in before if not is_constant[other]), cycle[place - 1])
    found = choose_partners(torch.tensor(cycle), torch.tensor(is_constant)).tolist()
    assert found == [expected[image] for image in range(len(cycle))]


def test_without_constant_maps_every_image_is_the_partner_of_one_other(generator):
    cycle = torch.randperm(50, generator=generator)
    partners = choose_partners(cycle, torch.zeros(50, dtype=torch.bool))
    assert torch.equal(partners[cycle], cycle.roll(1))
    assert sorted(partners.tolist()) == list(range(50))


def test_whole_frame_holds_all_mass_and_a_half_holds_half(generator):
    maps = torch.rand(1, 7, 7, generator=generator)
    assert_close(region_mass_of(maps, region(0, 14, 0, 14)), torch.ones(1))
    symmetric = maps + maps.flip(2)
    assert_close(region_mass_of(symmetric, region(0, 14, 0, 7)), torch.tensor([0.5]))


def test_region_mass_counts_only_what_is_above_zero():
    maps = one_cell(1, 1) - 5 * one_cell(5, 5)
    assert_close(region_mass_of(maps, region(0, 7, 0, 7)), torch.ones(1))


def test_map_is_cut_at_zero_after_it_is_upsampled():
    maps = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    # A row of the heatmap is 1, .5, -.5, -1; cut before upsampling it would be 1, .75, .25, 0.
    assert_close(region_mass_of(maps, region(0, 4, 0, 1, size=4)), torch.tensor([2 / 3]))


def test_uniform_map_has_the_regions_area_share_as_mass(generator):
    regions = torch.rand(3, 14, 14, generator=generator)
    assert_close(region_mass_of(torch.ones(3, 7, 7), regions), regions.mean((1, 2)))


def test_mass_and_pointing_of_an_empty_region_are_unknown():
    nothing = torch.zeros(1, 14, 14)
    assert region_mass_of(one_cell(1, 1), nothing).isnan().all()
    assert region_mass_of(-one_cell(1, 1), nothing).isnan().all()
    assert pointing(upsample(one_cell(1, 1), 14), nothing).isnan().all()


def test_nothing_of_an_empty_map_lies_in_the_region_and_of_an_overflown_one_it_is_unknown():
    assert region_mass_of(-one_cell(1, 1), region(0, 7, 0, 7)).tolist() == [0.0]
    assert region_mass_of(torch.full((1, 7, 7), torch.nan), region(0, 7, 0, 7)).isnan().all()


def test_silencing_maps_never_raises_the_mean_of_mass_in_the_region(generator):
    maps, regions = torch.randn(40, 7, 7, generator=generator), torch.rand(40, 14, 14, generator=generator) > 0.5
    before = region_mass_of(maps, regions.float())
    for share in (0.1, 0.5, 1.0):
        # The worst ones, shifted below 0: whatever is lit in them, nothing is positive.
        silent = before <= before.quantile(share)
        after = region_mass_of(torch.where(silent[:, None, None], maps - 100, maps), regions.float())
        assert after.mean() < before.mean()
        assert torch.equal(after[~silent], before[~silent])


def test_pointing_hits_where_the_highest_pixel_is():
    heatmap = upsample(one_cell(1, 5), 14)
    assert pointing(heatmap, region(0, 7, 7, 14)).tolist() == [1.0]
    assert pointing(heatmap, region(7, 14, 0, 7)).tolist() == [0.0]


def test_a_peak_on_the_rim_of_a_box_hits():
    heatmap = torch.zeros(1, 2, 2)
    heatmap[0, 0, 1] = 1.0
    assert pointing(heatmap, torch.tensor([[[1.0, 0.25], [1.0, 0.25]]])).tolist() == [1.0]


def test_pointing_works_on_maps_that_are_negative_everywhere():
    heatmap = upsample(one_cell(1, 5), 14) - 10
    assert pointing(heatmap, region(0, 7, 7, 14)).tolist() == [1.0]


def test_crop_keeps_all_mass_of_the_identity_and_its_area_of_a_uniform_map(generator):
    sizes = torch.full((8,), 56)
    transforms = draw_transforms(sizes, sizes, scale=(0.08, 1.0), generator=generator)
    assert_close(crop_mass_of(torch.rand(8, 7, 7, generator=generator), Transforms.identity(8), 56), torch.ones(8))
    assert_close(crop_mass_of(torch.ones(8, 7, 7), transforms, 56), crop_shares(transforms, 56).mean(2).prod(0).float())


def test_crop_mass_ignores_the_flip(generator):
    maps = torch.rand(1, 7, 7, generator=generator)
    boxes = torch.tensor([[0.0, 0.1, 0.5, 0.5]], dtype=torch.float64)
    plain, flipped = (Transforms(boxes=boxes, flips=torch.tensor([flip])) for flip in (False, True))
    assert torch.equal(crop_mass_of(maps, plain, 28), crop_mass_of(maps, flipped, 28))
