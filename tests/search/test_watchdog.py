"""How often the driver looks for signs of life; that it ends who gives none is tested in test_retries.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcc_search.search.jobs import Job, JobMaker, folder_of
from gcc_search.search.watchdog import CHECK_SECONDS, LOOKING_SHARE, pause_after
from tests.search.conftest import make_space


def test_looks_take_a_small_share_of_the_drivers_time():
    assert pause_after(0.001, limit=1800) == CHECK_SECONDS
    assert pause_after(10, limit=1800) == pytest.approx(10 / LOOKING_SHARE)


def test_a_slow_disk_delays_the_end_of_who_is_silent_by_a_quarter_of_the_limit_at_most():
    assert pause_after(1000, limit=1800) == 450


def test_a_jobs_folder_is_read_off_its_config_without_its_settings():
    maker = JobMaker(space=make_space(), fingerprints={32: "made-up"})
    for job in maker.jobs_of("convnet_small", "convnet_small-0000", {"alpha": 1.0, "beta": 0.5}):
        config = job.to_config()
        assert folder_of(config, Path("run")) == Job.from_config(config).folder(Path("run")) == job.folder(Path("run"))
