import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from gcc_search.analysis.effects import find_effects
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.figures import render
from gcc_search.analysis.findings import find
from gcc_search.analysis.frontier import find_frontier
from gcc_search.analysis.gallery import read_gallery
from gcc_search.analysis.heatmap_figure import SIDE, draw_heatmaps
from gcc_search.analysis.heatmap_grid import GridCell, GridRow, find_heatmap_grid
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.writer import write_heatmaps


def kept(run, *names):
    return read_gallery(read_run(run.folder), names)


def grid_of(run):
    read = read_run(run.folder)
    pairs = pair_with_baselines(read)
    assert find_frontier(pairs, read_question(read.record)).points
    names = [name for pair in pairs for name in (pair.baseline.id, pair.trial.id)]
    return find_heatmap_grid(
        find_effects([trial.record for trial in read.trials], pairs), pairs, read_gallery(read, names)
    )


def test_networks_of_one_data_set_share_an_album(mixed_run):
    found = kept(mixed_run, "t1", "r1", "resnet18-base")
    (album,) = found.albums
    assert [image.name for image in album.images] == ["square/0.png", "square/3.png"]
    assert album.images[1].crop == (0.25, 0.0, 0.5, 0.5)
    assert list(album.maps) == ["t1", "r1", "resnet18-base"]
    assert found.maps_of("t1").side == 3
    assert found.maps_of("t1") != found.maps_of("r1")


def test_a_network_that_kept_nothing_has_no_maps(mixed_run):
    found = kept(mixed_run, "t5", "t1")
    assert found.maps_of("t5") is None
    assert list(found.album_of) == ["t1"]


def test_a_torn_file_is_passed_over(mixed_run):
    path = mixed_run.folder / "trials/t1/heatmaps.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(kept(mixed_run, "t1", "r1").album_of) == ["r1"]


def keep_again(run, trial, **columns):
    """Writes what a trial kept once more, with other `columns`."""
    folder = run.folder / "trials" / trial
    write_heatmaps(folder, read_trial(folder).heatmaps().to_pydict() | columns)


def brighter(picture: bytes) -> bytes:
    """The JPEG of a picture whose pixels are one level brighter, as another device's rounding may make them."""
    content = io.BytesIO()
    Image.open(io.BytesIO(picture)).point(lambda level: min(level + 1, 255)).save(content, "JPEG")
    return content.getvalue()


def test_pictures_of_another_device_are_of_the_same_images(mixed_run):
    ours = [image.picture for image in kept(mixed_run, "t1").albums[0].images]
    theirs = [brighter(picture) for picture in ours]
    assert theirs != ours
    keep_again(mixed_run, "r1", picture=theirs)
    (album,) = kept(mixed_run, "t1", "r1").albums
    assert list(album.maps) == ["t1", "r1"]
    assert [image.picture for image in album.images] == ours


@pytest.mark.parametrize(
    "columns",
    [
        {"index": [0, 4]},
        {"name": ["square/0.png", "square/4.png"]},
        {"label": [0, 2]},
        {"crop": [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]},
        {"flipped": [True, True]},
    ],
)
def test_maps_of_other_images_or_transforms_belong_to_no_picture(mixed_run, columns):
    keep_again(mixed_run, "r1", **columns)
    assert list(kept(mixed_run, "t1", "r1").album_of) == ["t1"]


def test_what_is_beyond_the_limit_is_counted(mixed_run):
    found = read_gallery(read_run(mixed_run.folder), ["t1", "t1", "t2", "r1"], most=2)
    assert (list(found.album_of), found.left_out) == (["t1", "t2"], 1)


def test_trials_that_differ_in_one_setting_stand_in_a_row_of_the_grid(new_run):
    run = new_run()
    run.baseline()
    for p in (0, 1, 2):
        run.trial(f"t{p}", accuracy=90.0 + p, alpha=1.0, p=p, sampled={"alpha": 1.0, "p": p})
    run.trial("t3", alpha=10.0, p=1, status="collapsed", sampled={"alpha": 10.0, "p": 1})
    alphas, ps = grid_of(run)
    assert [cell.trial for cell in alphas.cells] == ["t1", "t3"]
    assert [cell.status for cell in alphas.cells] == ["finished", "collapsed"]
    assert ps == GridRow(
        parameter="p",
        network="resnet18",
        baseline="resnet18-base",
        baseline_is_shared=True,
        fixed={"alpha": 1.0},
        cells=tuple(
            GridCell(
                trial=f"t{p}",
                value=str(p),
                status="finished",
                accuracy_points=90.0 + p,
                corrected_consistency=0.4,
                gini=0.45,
            )
            for p in (0, 1, 2)
        ),
    )


def test_a_grid_over_a_setting_of_the_recipe_says_that_all_others_are_equal(new_run):
    run = new_run()
    run.baseline()
    for lr in (0.001, 0.01):
        run.trial(f"t{lr}", alpha=1.0, settings={"recipe": {"lr": lr, "epochs": 2}}, sampled={"alpha": 1.0, "lr": lr})
    (row,) = grid_of(run)
    assert (row.parameter, row.fixed) == ("lr", {"alpha": 1.0})
    assert [cell.value for cell in row.cells] == ["0.001", "0.01"]


def captions_of(run) -> list[str]:
    findings = find(read_run(run.folder))
    figure = draw_heatmaps(findings.heatmap_grid, findings.gallery, title="Run demo")
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_row_names_all_that_is_equal_along_it_and_says_whose_baseline_it_shows(new_run):
    run = new_run()
    for seed in (0, 1):
        run.baseline(key=f"base-{seed}", seed=seed)
        for alpha in (0.1, 3.0):
            sampled = {"alpha": alpha, "beta": 0.05, "p": 0, "distance": "correlation", "seed": seed}
            run.trial(f"t{seed}-{alpha}", baseline=f"base-{seed}", alpha=alpha, seed=seed, sampled=sampled)
    alphas, seeds = [text for text in captions_of(run) if "resnet18" in text]
    # A name and its value stand on one line.
    told = alphas.replace("\N{NO-BREAK SPACE}", " ")
    assert told == "class 0\nresnet18\nbeta 0.05, p 0,\ndistance correlation,\nseed 0"
    assert seeds.replace("\N{NO-BREAK SPACE}", " ").endswith("alpha 0.1, beta 0.05,\np 0,\ndistance correlation")
    assert [text for text in captions_of(run) if text.startswith("baseline")] == ["baseline", "baseline of\nseed 0"]


def test_captions_of_many_settings_do_not_touch_the_pictures_above(new_run):
    run = new_run()
    run.baseline()
    fixed = {f"setting_of_long_name_{number}": 0.125 for number in range(9)}
    for p in (0, 1):
        for alpha in (0.1, 3.0):
            run.trial(f"t{p}-{alpha}", p=p, alpha=alpha, sampled={"alpha": alpha, "p": p, **fixed})
    findings = find(read_run(run.folder))
    figure = draw_heatmaps(findings.heatmap_grid, findings.gallery, title="Run demo")
    FigureCanvasAgg(figure).draw()
    above, below = (axes for axes in figure.axes if "resnet18" in axes.get_title())
    assert below.title.get_window_extent().y1 < above.get_window_extent().y0
    assert above.get_window_extent().height > 0.8 * SIDE * figure.dpi


def test_a_random_search_is_shown_at_five_values_from_the_least_to_the_greatest(new_run):
    run = new_run()
    run.baseline()
    for number, alpha in enumerate(np.geomspace(0.01, 10, 9)):
        run.trial(f"t{number}", alpha=float(alpha), beta=0.1 + number, sampled={"alpha": float(alpha)})
    (row,) = grid_of(run)
    assert row.fixed is None
    assert [cell.trial for cell in row.cells] == ["t0", "t2", "t4", "t6", "t8"]
    assert [cell.value for cell in row.cells] == ["0.01", "0.0562", "0.316", "1.78", "10"]


def test_without_kept_maps_there_is_no_row(new_run):
    run = new_run()
    run.baseline()
    for p in (0, 1):
        run.trial(f"t{p}", p=p, sampled={"p": p})
    for path in run.folder.glob("*/*/heatmaps.parquet"):
        path.unlink()
    assert grid_of(run) == ()


@pytest.mark.parametrize("with_maps", [True, False])
def test_the_figure_is_drawn_with_and_without_rows(mixed_run, with_maps):
    findings = find(read_run(mixed_run.folder))
    rows = findings.heatmap_grid if with_maps else ()
    drawn = render(lambda: draw_heatmaps(rows, findings.gallery, title="Run demo"), title="demo", description="")
    assert drawn["png"].startswith(b"\x89PNG")
