"""report.html as a reader meets it: opened from disk in a browser, with a mouse, with keys, on a phone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gcc_search.analysis.overlay import COLOURS, OPACITY
from gcc_search.analysis.report import analyze
from gcc_search.results.reader import read_run
from gcc_search.saliency.geometry import Transforms, move_heatmaps
from gcc_search.saliency.ssim import structural_similarity

# CSS of what a reader sees.
MARK = "#scatter .mark"
TIP = "#tip"
PANEL = "#chosen"

# Of one image's row, counted from 1, once its picture has been decoded.
PIXELS = """
const [row, done] = arguments, all = [...document.querySelectorAll(`.maps tbody tr:nth-child(${row}) canvas`)];
const pixels = (c) => [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data];
setTimeout(() => done(all.map(pixels)), 300);
"""


def find(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def texts(page, selector) -> list[str]:
    return [item.text for item in page.find_elements(By.CSS_SELECTOR, selector)]


def scroll_to(page, selector):
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(page, selector))


def test_it_opens_from_disk_and_says_nothing_in_the_console(open_page, report):
    page = open_page(report)
    assert page.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert page.get_log("browser") == []
    assert page.title == "demo: gcc-search report"


def test_it_asks_for_nothing_but_itself(open_page, report):
    page = open_page(report)
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}


def test_a_mark_for_each_scored_trial_and_baseline(open_page, report):
    page = open_page(report)
    named = {mark.get_attribute("data-trial") for mark in page.find_elements(By.CSS_SELECTOR, MARK)}
    # The collapsed t4 lies outside the axes of the others, and that is said.
    assert named == {"t1", "t2", "t3", "r1", "resnet18-base", "resnet50-base"}
    assert find(page, "#outside").text == "1 collapsed outside the axes"


def test_hovering_tells_trial_settings_and_measures(open_page, report):
    page = open_page(report)
    scroll_to(page, f"{MARK}[data-trial=t2]")
    assert not find(page, TIP).is_displayed()
    ActionChains(page).move_to_element(find(page, f"{MARK}[data-trial=t2]")).perform()
    told = find(page, TIP).text
    assert told.startswith("t2")
    for words in ("alpha 3", "beta 0.05", "C*, validation 0.500", "Gini index, validation 0.400", "resnet18"):
        assert words in told


def test_a_tooltip_tells_a_measure_of_one_split_from_that_of_the_other(open_page, report):
    page = open_page(report)
    choose = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    for axis, field in (("x", "test.accuracy_points"), ("y", "test.corrected_consistency"), ("colour", "test.gini")):
        page.execute_script(choose, f"axis-{axis}", field)
    page.execute_script("arguments[0].focus()", find(page, f"{MARK}[data-trial=t2]"))
    named = texts(page, f"{TIP} td:first-child")
    assert {"accuracy, test", "C*, test", "Gini index, test", "accuracy tradeoff", "alpha"} <= set(named)
    assert len(named) == len(set(named))


def test_clicking_shows_settings_measures_and_heatmaps(open_page, report):
    page = open_page(report)
    scroll_to(page, f"{MARK}[data-trial=t2]")
    find(page, f"{MARK}[data-trial=t2]").click()
    assert find(page, f"{PANEL} h3").text == "t2, on the frontier"
    measures = {row.split(" 3.00")[0] for row in texts(page, f"{PANEL} tbody tr")}
    assert any(row.startswith("C*, validation split") for row in measures)
    canvases = page.find_elements(By.CSS_SELECTOR, f"{PANEL} .maps canvas")
    # Two images: the image, and three pictures of the trial and of its baseline.
    assert len(canvases) == 2 * (1 + 3 + 3)
    assert texts(page, f"{PANEL} .maps tbody tr:first-child .caption")[-1] == "SSIM 0.500"


def moved(image, crop, flipped):
    """t of a square image, (size, size, 3), at its own size, by its nearest pixels.

    Args:
        crop: top, left, height, width as shares of the frame.
    """
    size = len(image)
    centres = (np.arange(size) + 0.5) / size
    rows, columns = (
        np.clip(((start + extent * centres) * size).astype(int), 0, size - 1)
        for start, extent in zip(crop[:2], crop[2:], strict=True)
    )
    return image[rows][:, columns[::-1] if flipped else columns]


def moved_heatmap(heatmap, image):
    """As it is measured: moved, then stretched to its own range."""
    t = Transforms(boxes=torch.tensor([image.crop], dtype=torch.float64), flips=torch.tensor([image.flipped]))
    found = move_heatmaps(t, torch.tensor(heatmap)[None], len(heatmap))[0].numpy()
    return (found - found.min()) / (found.max() - found.min())


def test_heatmaps_are_painted_as_analysis_draws_them(open_page, report):
    from gcc_search.analysis.gallery import read_gallery
    from gcc_search.analysis.heatmap_figure import open_picture
    from gcc_search.analysis.overlay import heatmap, overlay

    page = open_page(report)
    find(page, f"{MARK}[data-trial=t2]").send_keys(Keys.ENTER)
    painted = page.execute_async_script(PIXELS, 2)
    kept = read_gallery(read_run(report.parent.parent), ["t2"])
    image, maps = kept.albums[0].images[1], kept.maps_of("t2")
    picture = open_picture(image)
    size, crop = len(picture), np.array(image.crop)
    first, second = (heatmap(np.array(raw[1]).reshape(3, 3), size) for raw in (maps.maps, maps.moved_maps))
    shown = moved(picture, crop, image.flipped)
    expected = [
        picture,
        overlay(picture, first),
        overlay(shown, moved_heatmap(first, image)),
        overlay(shown, second),
    ]
    # Columns: image; baseline and trial; then both views of the baseline and of the trial.
    for place, wanted in zip((0, 2, 5, 6), expected, strict=True):
        found = np.array(painted[place], dtype=int).reshape(size, size, 4)[..., :3]
        assert np.abs(found - wanted).mean() < 2, place


def levels_of(painted, shown):
    """The heatmap, in [0, 1], that was laid over a picture: the colour that is left when the grey is taken away."""
    table = colormaps[COLOURS](np.arange(256))[:, :3] * 255
    grey = shown @ np.array([0.299, 0.587, 0.114])
    colours = (painted - (1 - OPACITY) * grey[..., None]) / OPACITY
    return ((colours[:, :, None] - table) ** 2).sum(-1).argmin(-1) / 255


@pytest.mark.parametrize("trial", ["t1", "base"])
def test_the_two_heatmaps_that_are_painted_are_as_alike_as_is_written_below_them(open_page, tiny_run, tmp_path, trial):
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    page = open_page(analyze(run).files[0])
    find(page, f"{MARK}[data-trial={trial}]").send_keys(Keys.ENTER)
    told = [float(text.removeprefix("SSIM ")) for text in texts(page, ".maps .caption") if text.startswith("SSIM")]
    kept = read_run(run).trials[0].heatmaps().to_pylist()
    found = []
    for number, image in enumerate(kept, start=1):
        pictures = page.execute_async_script(PIXELS, number)
        size = round((len(pictures[0]) / 4) ** 0.5)
        plain, *others = (np.array(values, dtype=float).reshape(size, size, 4)[..., :3] for values in pictures)
        shown = moved(plain, image["crop"], image["flipped"])
        # The picture, CAM(x) of each network, then both views of each.
        views = [levels_of(other, shown) for other in others[len(others) // 3 :]]
        pairs = torch.tensor(np.array(views)).float().unflatten(0, (-1, 2))
        found += structural_similarity(pairs[:, 0], pairs[:, 1]).tolist()
    # Of the 256 levels of a map, those of a small crop are few.
    np.testing.assert_allclose(found, told, atol=0.02)


def test_everything_is_reached_with_keys(open_page, report):
    page = open_page(report)
    find(page, "#axis-colour").send_keys(Keys.TAB)
    first = page.switch_to.active_element
    assert "mark" in first.get_attribute("class")
    assert find(page, TIP).is_displayed()
    first.send_keys(Keys.ARROW_RIGHT)
    second = page.switch_to.active_element
    assert second.get_attribute("data-trial") != first.get_attribute("data-trial")
    second.send_keys(Keys.ENTER)
    assert find(page, PANEL).is_displayed()
    assert page.switch_to.active_element.text.startswith(second.get_attribute("data-trial"))


def test_a_heading_sorts_the_table_of_trials_and_sorts_it_back(open_page, report):
    page = open_page(report)
    button = find(page, "#trials-table th[title='C*, validation split'] button")
    page.execute_script("arguments[0].click()", button)
    assert texts(page, "#trials-table tbody tr td:first-child")[:5] == ["t4", "r1", "t1", "t2", "t3"]
    page.execute_script("arguments[0].click()", button)
    names = texts(page, "#trials-table tbody tr td:first-child")
    assert names[:5] == ["t3", "t2", "t1", "r1", "t4"]
    # Trials without the measure stay last.
    assert set(names[5:]) == {"t5", "t6", "t7", "r2"}
    heading = find(page, "#trials-table th[title='C*, validation split']")
    assert heading.get_attribute("aria-sort") == "descending"


def test_a_heading_sorts_the_comparison(open_page, report):
    page = open_page(report)
    rows = "section[aria-labelledby=table1] table tbody tr td:nth-child(4)"
    page.execute_script("document.querySelectorAll('section[aria-labelledby=table1] th button')[3].click()")
    values = [float(text.rstrip("*")) for text in texts(page, rows)][:5]
    assert values == sorted(values)


@pytest.mark.parametrize("clicks", [1, 2])
def test_what_the_comparison_does_not_know_is_last_however_it_is_sorted(open_page, report, clicks):
    page, rows = open_page(report), "section[aria-labelledby=table1] table tbody tr"
    # As a measure has it that a file is missing for.
    page.execute_script(
        """for (const cell of document.querySelectorAll(arguments[0])) {
             cell.textContent = "-";
             cell.removeAttribute("data-value");
           }""",
        f"{rows}:nth-child(odd) td:nth-child(4)",
    )
    for _ in range(clicks):
        page.execute_script("document.querySelectorAll('section[aria-labelledby=table1] th button')[3].click()")
    # Of the first of two networks.
    found = texts(page, f"{rows} td:nth-child(4)")[:7]
    known = [float(text.rstrip("*")) for text in found if text != "-"]
    assert [text == "-" for text in found] == sorted(text == "-" for text in found)
    assert known == sorted(known, reverse=clicks == 2)


def test_the_filter_keeps_what_it_names(open_page, report):
    page = open_page(report)
    find(page, "#filter").send_keys("resnet50")
    assert texts(page, "#trials-table tbody tr td:first-child") == ["r1", "r2"]
    assert find(page, "#count").text == "2 of 2 shown, 9 in all"


def test_other_axes_can_be_chosen(open_page, report):
    page = open_page(report)
    page.execute_script(
        "const s = document.getElementById('axis-x'); s.value = 'alpha'; s.dispatchEvent(new Event('change'))"
    )
    named = {mark.get_attribute("data-trial") for mark in page.find_elements(By.CSS_SELECTOR, MARK)}
    assert named == {"t1", "t2"}, "only these have an alpha above 0"
    assert "log" in "".join(texts(page, "#scatter text"))
    assert page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_systems_colours_and_the_button_turns_them(open_page, report, scheme):
    page = open_page(report, scheme=scheme)

    def is_dark() -> bool:
        colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return colour == "rgb(21, 24, 28)"

    assert is_dark() == (scheme == "dark")
    find(page, "#theme").click()
    assert is_dark() == (scheme == "light")


def test_a_phone_scrolls_down_and_never_sideways(open_page, report):
    page = open_page(report, width=390)
    find(page, f"{MARK}[data-trial=t2]").send_keys(Keys.ENTER)
    assert page.execute_script("return document.documentElement.scrollWidth") == 390
    letters = page.execute_script(
        "return [...document.querySelectorAll('#scatter text')].map((t) => t.getBoundingClientRect().height)"
    )
    assert min(letters) >= 10
