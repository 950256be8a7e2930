"""The figure of `gcc-search explain`: every panel has its words, and no words run into each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from gcc_search.analysis.explanations import Block, Explanations, View, num_shown
from gcc_search.analysis.explanations_figure import draw_explanations
from gcc_search.analysis.figures import render_as

METHODS = ("gradcam++", "eigencam")


def explanations(
    *, networks: int = 2, blocks: int = 2, methods: tuple[str, ...] = METHODS, name: str = "crab"
) -> Explanations:
    heat = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    picture = np.full((32, 32, 3), 90, dtype=np.uint8)
    views = tuple(
        View(
            network=f"{name}-{number}",
            predicted=name,
            confidence=0.5,
            heat=heat,
            moved_heat=heat,
            heat_of_moved=1 - heat,
            consistency=0.25 + number / 8,
            others=(heat,) * len(methods),
        )
        for number in range(networks)
    )
    block = Block(
        name=f"{name}/image_0001.jpg",
        label="crab",
        picture=picture,
        moved_picture=picture,
        crop=(0.1, 0.2, 0.5, 0.6),
        mirrored=True,
        views=views,
    )
    return Explanations(blocks=(block,) * blocks, methods=methods)


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_every_panel_says_what_it_is():
    told = words(draw_explanations(explanations(), title="demo"))
    for word, times in (("x: crab", 2), ("t(x), mirrored", 2), ("t(M(x))", 4), ("M(t(x))", 4), ("gradcam++", 4)):
        assert told.count(word) == times, word
    assert told.count("M(x): crab 0.50") == 4
    assert told.count("SSIM 0.250") == told.count("SSIM 0.375") == 2


def test_a_wrong_prediction_is_marked():
    told = words(draw_explanations(explanations(name="lobster"), title="demo"))
    assert told.count("M(x): lobster 0.50 (wrong)") == 4


@pytest.mark.parametrize("name", ["crab", "a_class_of_a_very_long_name_indeed"])
@pytest.mark.parametrize(("networks", "methods"), [(1, ()), (3, METHODS)])
def test_no_words_run_into_each_other_or_off_the_page(networks, methods, name):
    figure = draw_explanations(explanations(networks=networks, methods=methods, name=name), title="demo")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    for told, box in boxes:
        assert box.x0 >= 0, told
        assert box.y0 >= 0, told
        assert box.x1 <= figure.bbox.width, told
        assert box.y1 <= figure.bbox.height, told
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), (one, other)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_figure_is_the_same_bytes(suffix, start):
    first, second = (
        render_as(lambda: draw_explanations(explanations(), title="demo"), suffix, title="demo", description="told")
        for _ in range(2)
    )
    assert first == second
    assert first.startswith(start)


@pytest.mark.parametrize(("asked", "networks", "shown"), [(3, 2, 3), (100, 2, 12), (100, 5, 4), (2, 99, 1)])
def test_a_figure_holds_24_rows(asked, networks, shown):
    assert num_shown(asked, networks=networks) == shown
