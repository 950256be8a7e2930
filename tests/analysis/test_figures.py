import io
import itertools
import xml.etree.ElementTree as ET

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gcc_search.analysis.boundary_figure import draw_boundary
from gcc_search.analysis.distribution_figure import draw_consistency
from gcc_search.analysis.effects_figure import draw_effects
from gcc_search.analysis.figures import COLOURS, MARKERS, MOST_VECTOR_POINTS, network_style, render, render_as
from gcc_search.analysis.findings import find
from gcc_search.analysis.frontier_figure import draw_frontier
from gcc_search.analysis.growth_figure import draw_growth
from gcc_search.analysis.importance_figure import draw_importance
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.analysis.tradeoff import accuracy_tradeoffs
from gcc_search.analysis.tradeoff_figure import AXIS, GIVEN_UP_KEY, draw_tradeoff, say_counts, say_given_up, say_spread
from gcc_search.results.reader import read_run

KINDS = ("frontier", "tradeoff", "consistency", "effects", "boundary", "importance", "growth")
DRAWN = {
    "consistency": lambda found: draw_consistency(found.consistencies, title="demo"),
    "effects": lambda found: draw_effects(found.effects, title="demo"),
    "boundary": lambda found: draw_boundary(found.boundary, title="demo"),
    "importance": lambda found: draw_importance(found.importance_panels, title="demo"),
    "growth": lambda found: draw_growth(found.growth, bands=found.bands, title="demo"),
    "frontier": lambda found: draw_frontier(found.frontier, bands=found.bands, knee=found.growth.knee, title="demo"),
}


def figure_of(builder, kind):
    run = read_run(builder.folder)
    if kind != "tradeoff":
        return DRAWN[kind](find(run))
    pairs = pair_with_baselines(run)
    return draw_tradeoff(accuracy_tradeoffs(pairs, [trial.record for trial in run.trials]), title="demo")


def render_of(builder, kind):
    return render(lambda: figure_of(builder, kind), title="demo", description="run demo, seed 7")


def all_text(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def letters_outside(figure) -> list[str]:
    """Texts that reach beyond the figure."""
    FigureCanvasAgg(figure).draw()
    frame, found = figure.bbox, []
    for text in figure.findobj(matplotlib.text.Text):
        # Tick labels beyond an axis' limits exist as objects and are not drawn.
        if text.get_visible() and any(letter.isalpha() for letter in text.get_text()):
            box = text.get_window_extent()
            inside = (box.x0 >= frame.x0, box.y0 >= frame.y0, box.x1 <= frame.x1, box.y1 <= frame.y1)
            found += [] if all(inside) else [text.get_text()]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_a_valid_png_and_a_valid_svg(mixed_run, kind):
    files = render_of(mixed_run, kind)
    with Image.open(io.BytesIO(files["png"])) as image:
        image.load()
        assert min(image.size) > 600
        assert image.info["Description"] == "run demo, seed 7"
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 20
    assert ET.fromstring(files["svg"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"run demo, seed 7" in files["svg"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_has_the_same_bytes_each_time_whatever_the_users_style(mixed_run, kind):
    first = render_of(mixed_run, kind)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert render_of(mixed_run, kind) == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_trial_can_be_drawn(new_run, kind):
    run = new_run()
    run.baseline()
    run.trial("t1")
    assert len(render_of(run, kind)["png"]) > 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixed", ["finished", "collapsed"])
def test_all_letters_lie_inside_the_figure(new_run, kind, mixed):
    run = new_run()
    for network in ("resnet18", "resnet50", "convnext_tiny"):
        run.baseline(network)
        for index in range(3):
            run.trial(f"{network}-{index}", network, accuracy=93.5 + 0.1 * index, gini=0.4 + 0.01 * index)
        run.trial(f"{network}-c", network, status=mixed, accuracy=12.0, corrected=0.0, gini=0.1)
    assert letters_outside(figure_of(run, kind)) == []


@pytest.mark.parametrize("num_parameters", [1, 2, 3])
def test_all_letters_lie_inside_a_figure_of_few_parameters(new_run, num_parameters):
    run = new_run()
    run.baseline()
    for index in range(12):
        names = ("alpha", "beta", "p")[:num_parameters]
        sampled = {name: 1.0 + index + place for place, name in enumerate(names)}
        run.trial(
            f"t{index}",
            status=("collapsed", "diverged")[index] if index < 2 else "finished",
            sampled=sampled,
            **sampled,
        )
    assert letters_outside(figure_of(run, "effects")) == []


def test_the_legend_covers_no_point(mixed_run):
    figure = figure_of(mixed_run, "frontier")
    FigureCanvasAgg(figure).draw()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_labels_of_neighbouring_networks_do_not_touch(new_run):
    run = new_run()
    for network in ("convnext_tiny", "resnet18", "resnet50"):
        run.baseline(network)
        run.trial(f"{network}-1", network)
        for status in ("collapsed", "collapsed", "diverged", "failed", "stopped", "running"):
            run.trial(f"{network}-{status}", network, status=status, accuracy=1.0)
    figure = figure_of(run, "tradeoff")
    FigureCanvasAgg(figure).draw()
    boxes = [label.get_window_extent() for label in figure.axes[-1].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


# Two formulas that matplotlib cannot read, one that it can, and letters that its font lacks.
NAMES = ("$5 ^ $10", "$100 {x$", "$x$", "日本語")


@pytest.mark.parametrize("draw", [render, lambda draw, **told: render_as(draw, "pdf", **told)])
def test_names_are_drawn_as_they_are_written_beside_a_log_axis(draw):
    figure = Figure()
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set(xlim=(1e-3, 10), title=NAMES[0], xlabel=NAMES[1])
    axes.set_yticks(range(len(NAMES)), NAMES)
    axes.plot([1, 2], label=NAMES[1])
    axes.legend()
    draw(lambda: figure, title=NAMES[0], description=NAMES[1])
    named = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() in NAMES]
    assert {text.get_text() for text in named} == set(NAMES)
    assert not any(text.get_parse_math() for text in named)
    assert all(label.get_parse_math() for label in axes.get_xticklabels())


def test_a_frontier_of_no_trial_says_so(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("t1", accuracy=80.0)
    told = "no feasible trial: none of 1 that finished kept accuracy >= baseline - 1.0"
    assert told in all_text(figure_of(run, "frontier"))


def test_axes_carry_quantity_split_and_unit(mixed_run):
    frontier, tradeoff = (all_text(figure_of(mixed_run, kind)) for kind in ("frontier", "tradeoff"))
    assert "sparsity: Gini index of the map, validation split" in frontier
    assert "corrected consistency C*, validation split" in frontier
    assert "test accuracy, points" in frontier
    assert AXIS == "accuracy tradeoff, points (positive = accuracy lost)"
    assert AXIS in tradeoff


def test_a_box_tells_mean_count_and_what_did_not_finish(mixed_run):
    text = all_text(figure_of(mixed_run, "tradeoff"))
    assert "resnet18\n-1.17 ± 3.33 (n = 3)\nwith collapsed:\n+17.62 ± 37.68 (n = 4)\n" in text
    assert "1 collapsed, 1 diverged\n1 running, 1 stopped early" in text
    assert "stopped early: in no box" in text


@pytest.mark.parametrize(
    ("epochs", "told", "printed"),
    [
        ((2, 4), "2 given up in\nepoch 2 to 4 of 6\n", "2 collapsed were given up in epoch 2 to 4 of 6, baselines"),
        ((6, 3), "1 given up in\nepoch 3 of 6\n", "1 of 2 collapsed was given up in epoch 3 of 6, baselines"),
        ((6, 6), None, ""),
    ],
)
def test_a_mean_with_collapsed_trials_says_in_which_epoch_they_were_given_up(new_run, epochs, told, printed):
    run = new_run()
    run.baseline()
    run.trial("t0", epochs=6, settings={"recipe": {"epochs": 6}})
    for index, number in enumerate(epochs):
        run.trial(f"c{index}", status="collapsed", epochs=number, settings={"recipe": {"epochs": 6}})
    text = all_text(figure_of(run, "tradeoff"))
    assert (GIVEN_UP_KEY in text) == ("given up" in text) == (told is not None)
    assert told is None or told in text
    (item,) = find(read_run(run.folder)).tradeoffs
    assert say_given_up(item).startswith(printed)
    assert bool(say_given_up(item)) == bool(printed)


def test_where_nothing_was_stopped_early_no_key_speaks_of_it(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1", alpha=1.0, beta=0.1)
    for kind in ("tradeoff", "boundary"):
        assert "stopped early" not in all_text(figure_of(run, kind))


def test_words_for_little_or_nothing():
    assert say_spread(None) == "no finished trial"
    assert say_counts({"finished": 3}) == []


def test_neighbouring_networks_differ_in_shape_and_colour():
    styles = network_style([f"net{i}" for i in range(7)])
    assert len({marker for marker, _ in styles.values()}) == len(MARKERS) == 7
    assert len({colour for _, colour in styles.values()}) == len(COLOURS) == 7


@pytest.mark.parametrize("kind", ["frontier", "tradeoff"])
def test_dense_layers_are_pixels_in_the_svg_and_the_figure_says_so(new_run, kind):
    run = new_run()
    run.baseline()
    for index in range(3):
        run.trial(f"t{index}", gini=0.4 + 0.1 * index)
    sparse = render_of(run, kind)["svg"]

    def draw():
        figure = figure_of(run, kind)
        axes = figure.axes[0]
        axes.scatter([0.5] * (MOST_VECTOR_POINTS + 1), [0.4] * (MOST_VECTOR_POINTS + 1))
        return figure

    dense = render(draw, title="demo", description="run demo, seed 7")["svg"]
    assert b"<image" in dense
    assert b"<image" not in sparse or kind == "frontier"
    assert len(dense) < len(sparse) + 100_000
    assert b"layers of more than 500 points are pixels in the SVG" in dense
    assert b"pixels in the SVG" not in sparse
