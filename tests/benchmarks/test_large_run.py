"""The run that the analysis is timed on has what a real one has: the analysis does with it what it does there."""

from __future__ import annotations

import pytest

from benchmarks.large_run import UNSCORED_EVERY, write_large_run
from gcc_search.analysis.findings import find
from gcc_search.analysis.heatmap_figure import open_picture
from gcc_search.results.reader import read_run
from gcc_search.training.examples import NUM_EXAMPLES, PICTURE_SIDE

TRIALS = 3 * UNSCORED_EVERY


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "large"
    write_large_run(folder, trials=TRIALS, images=20)
    return find(read_run(folder))


def test_nothing_of_it_is_refused(findings):
    assert findings.problems == ()
    assert len(findings.pairs) == TRIALS


def test_every_scored_network_kept_its_maps_of_the_same_examples(findings):
    compared = {name for pair in findings.pairs for name in (pair.trial.id, pair.baseline.id)}
    (album,) = findings.gallery.albums
    assert set(findings.gallery.album_of) == compared
    assert len(album.images) == NUM_EXAMPLES


def test_the_heatmaps_have_rows_to_draw_and_pictures_of_real_size(findings):
    assert {row.parameter for row in findings.heatmap_grid} == {"alpha", "beta", "p", "seed"}
    images = findings.gallery.albums[0].images
    assert {open_picture(image).shape for image in images} == {(PICTURE_SIDE, PICTURE_SIDE, 3)}
    assert all(4_000 < len(image.picture) < 10_000 for image in images)
