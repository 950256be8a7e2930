"""A real browser without a window. Where there is none, its tests are left out, and the summary says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from gcc_search.analysis.report import analyze
from tests.analysis.conftest import RunBuilder, fill

DRAWN_SECONDS = 20
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Nothing leaves the machine, and root may run it.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with two networks and trials of every status."""
    return analyze(fill(RunBuilder(tmp_path_factory.mktemp("runs") / "demo")).folder).files[0]


@pytest.fixture
def open_page(browser: webdriver.Chrome) -> Callable[..., webdriver.Chrome]:
    """Opens a page from disk, `width` pixels wide, in a light or dark system."""

    def open_at(page: Path, *, width: int = 1200, scheme: str = "light") -> webdriver.Chrome:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        asked = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", asked)
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(page.as_uri())
        # On a busy machine the page is there before its script has drawn it.
        WebDriverWait(browser, DRAWN_SECONDS).until(
            lambda driver: driver.execute_script("return document.documentElement.dataset.ready") == "yes"
        )
        return browser

    return open_at
