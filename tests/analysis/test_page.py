import html
import json
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from gcc_search.analysis.findings import find
from gcc_search.analysis.page import inline_svg, make_page
from gcc_search.analysis.page_data import page_data
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.writer import write_heatmaps, write_run


@pytest.fixture(scope="module")
def page(analyzed) -> str:
    return analyzed.files[0].read_text()


NO_FIGURES = defaultdict(lambda: b"<svg></svg>")


def page_of(folder) -> str:
    """The page of a run, without the time that its figures take."""
    return make_page(find(read_run(folder)), NO_FIGURES).decode()


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_report_comes_first_and_is_one_whole_page(analyzed, page):
    assert analyzed.files[0].name == "report.html"
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")


def test_the_page_asks_nothing_of_a_network(page):
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page) == []
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_every_trial_is_in_the_page_whatever_became_of_it(analyzed, page):
    data = data_of(page)
    place = data["fields"].index("trial")
    assert [row[place] for row in data["trials"]] == [record.id for record in analyzed.records]
    assert [row[place] for row in data["baselines"]] == ["resnet18-base", "resnet50-base"]
    assert data["edge"] == list(analyzed.frontier.edge)


def test_the_pages_data_are_the_findings(analyzed, page):
    assert data_of(page) == json.loads(json.dumps(page_data(analyzed)))


def test_scored_trials_have_their_heatmaps_in_the_page(page):
    data = data_of(page)
    assert set(data["album_of"]) == {"resnet18-base", "resnet50-base", "t1", "t2", "t3", "t4", "r1"}
    assert len(data["albums"][0]["images"]) == 2


def test_every_figure_says_how_to_read_it(page):
    assert page.count("How to read this") == 10
    assert page.count("<svg xmlns") + page.count("<svg height") >= 7


def test_ids_are_unique(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_figures_take_the_colours_of_the_page():
    svg = b'<?xml?><svg><path id="a" style="fill: #ffffff; stroke: #E5E5E5"/><use href="#a" clip-path="url(#a)"/></svg>'
    assert inline_svg("growth", svg) == (
        '<svg><path id="growth-a" style="fill: var(--paper); stroke: var(--grid)"/>'
        '<use href="#growth-a" clip-path="url(#growth-a)"/></svg>'
    )


def test_names_are_text_and_never_markup(new_run):
    run = new_run()
    run.baseline()
    run.trial("<b>t1", sampled={"</script><script>": 1.0})
    write_run(run.folder, replace(run.record, command="gcc-search <img src=x>"))
    content = page_of(run.folder)
    assert "<b>t1" not in content
    assert "</script><script>" not in content
    assert "<img" not in content
    assert "gcc-search &lt;img src=x&gt;" in content


def test_a_network_whose_maps_overflowed_is_shown_without_them(mixed_run):
    path = mixed_run.folder / "trials/t2"
    kept = read_trial(path).heatmaps().to_pydict()
    nothing = [float("nan")] * 9
    write_heatmaps(path, kept | {"map": [nothing, nothing], "consistency": [float("nan")] * 2})
    data = data_of(page_of(mixed_run.folder))
    assert data["albums"][0]["maps"]["t2"]["consistency"] == [None, None]


@pytest.mark.parametrize("constant", [0.0, 0.25])
def test_constant_maps_are_told_where_there_are_any(new_run, constant):
    run = new_run()
    run.baseline(constant=0.0, images={"degenerate": np.zeros(8, dtype=bool)})
    run.trial("t1", constant=constant, images={"degenerate": np.arange(8) < 8 * constant})
    content = page_of(run.folder)
    assert ("constant maps 0.000 → 0.250" in content) == (constant > 0)
    assert ("test.degenerate_fraction" in data_of(content)["fields"]) == (constant > 0)


def test_what_the_page_has_no_room_for_is_told(mixed_run):
    findings = find(read_run(mixed_run.folder))
    crowded = replace(findings, gallery=replace(findings.gallery, left_out=7))
    assert "no room for the heatmaps of 7 of them" in make_page(crowded, NO_FIGURES).decode()
    assert "no room" not in make_page(findings, NO_FIGURES).decode()


def test_refused_files_are_counted_and_named(mixed_run):
    path = mixed_run.folder / "trials/t2/trial.json"
    path.write_bytes(path.read_bytes()[:-20])
    content = page_of(mixed_run.folder)
    assert "1 file was refused and the rest used" in content
    assert f"{path}: must be whole JSON" in html.unescape(content)


def test_a_run_without_feasible_trials_says_so(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("t1", accuracy=80.0)
    content = page_of(run.folder)
    assert "no feasible trial: none of 1 that finished kept accuracy &gt;= baseline - 1.0" in content


def test_what_became_of_the_same_settings_under_other_seeds_stands_below_the_table(new_run):
    run = new_run()
    statuses = ("finished", "finished", "diverged")
    for seed, status in enumerate(statuses):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, corrected=0.4, status=status)
    told = "C*: +0.100 (+0.100 to +0.100) over seeds 0, 1 (diverged: 2): 95 %, Student&#39;s t over seeds</p>"
    assert told in page_of(run.folder)
    run.trial("t1", baseline="base-1", seed=1, alpha=2.0, status="failed")
    assert "C*: +0.100 over seed 0 (diverged: 2; failed: 1)</p>" in page_of(run.folder)
