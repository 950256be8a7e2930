"""A cache is built once, shared, and never read where it is torn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gcc_search.errors import DataError
from gcc_search.training import cache_file
from gcc_search.training.cache_file import CachedImages, CacheSpec
from gcc_search.training.image_cache import Picture, cache_folder, open_cache

NUM_IMAGES, SIDE = 20, 8


def draw(row: int) -> Picture:
    """Row 3 is unreadable; even rows have a box."""
    if row == 3:
        return Picture(name="3.jpg", content="c3", unreadable="no image")
    pixels = np.random.default_rng(row).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    box = (0.25, 0.5, 0.5, 0.125) if row % 2 == 0 else None
    mask = (pixels[0] > 127).astype(np.uint8) * 255
    return Picture(name=f"{row}.jpg", content=f"c{row}", pixels=pixels, mask=mask, height=20, width=30 + row, box=box)


def spec(*, has_masks: bool = True, identity: object = "a", side: int = SIDE) -> CacheSpec:
    return CacheSpec(data_set="test", side=side, num_images=NUM_IMAGES, has_masks=has_masks, identity=identity)


class Counted:
    """`draw`, counting its calls."""

    def __init__(self, make: Callable[[int], Picture] = draw) -> None:
        self.make = make
        self.calls = 0

    def __call__(self, row: int) -> Picture:
        self.calls += 1
        return self.make(row)


def assert_holds_the_drawn_rows(cached: CachedImages) -> None:
    for row in set(range(NUM_IMAGES)) - {3}:
        picture = draw(row)
        assert_array_equal(cached.images[row].numpy(), picture.pixels)
        assert cached.masks is not None
        assert_array_equal(cached.masks[row].numpy(), picture.mask)
        assert cached.names[row] == picture.name
        assert (cached.heights[row], cached.widths[row]) == (picture.height, picture.width)
        assert bool(cached.boxes[row].isnan().all()) == (picture.box is None)
    assert cached.boxes[0].tolist() == [0.25, 0.5, 0.5, 0.125]
    assert [row for row in range(NUM_IMAGES) if cached.unreadable[row]] == [3]


def only_file(folder: Path, suffix: str = ".arrow") -> Path:
    (path,) = folder.glob(f"*{suffix}")
    return path


def test_what_was_drawn_is_read(tmp_path):
    assert_holds_the_drawn_rows(open_cache(spec(), draw, folder=tmp_path))


def test_an_existing_cache_is_opened_without_drawing_anything(tmp_path):
    open_cache(spec(), draw, folder=tmp_path)
    again = Counted()
    assert_holds_the_drawn_rows(open_cache(spec(), again, folder=tmp_path))
    assert again.calls == 0


def test_building_leaves_nothing_but_the_cache_and_its_lock(tmp_path):
    open_cache(spec(), draw, folder=tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".arrow", ".lock"}


@pytest.mark.parametrize(
    "other", [spec(identity="b"), spec(side=9), spec(has_masks=False)], ids=["content", "size", "masks"]
)
def test_another_content_size_or_kind_is_another_file(other):
    assert other.file_name != spec().file_name


def test_another_format_is_another_file(monkeypatch):
    before = spec().file_name
    monkeypatch.setattr(cache_file, "FORMAT_VERSION", cache_file.FORMAT_VERSION + 1)
    assert spec().file_name != before


def test_pixels_that_are_written_in_pieces_are_whole(tmp_path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, values, offset: write(file, values[:100], offset))
    assert_holds_the_drawn_rows(open_cache(spec(), draw, folder=tmp_path))


def test_a_changed_width_is_never_read(tmp_path):
    open_cache(spec(), draw, folder=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    widths = np.array([0 if row == 3 else 30 + row for row in range(NUM_IMAGES)], np.int64).tobytes()
    assert content.count(widths) == 1
    path.write_bytes(content.replace(widths, widths.replace(b"\x1e", b"\x1f")))
    again = Counted()
    assert_holds_the_drawn_rows(open_cache(spec(), again, folder=tmp_path))
    assert again.calls == NUM_IMAGES


def test_progress_counts_every_image_once(tmp_path):
    told: list[tuple[int, int]] = []
    open_cache(spec(), draw, folder=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, NUM_IMAGES) for done in range(1, NUM_IMAGES + 1)]


def test_a_process_that_is_bound_to_one_core_decodes_one_image_at_a_time(tmp_path):
    code = f"""
import os, threading, time
os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})
from pathlib import Path
from gcc_search.training.image_cache import open_cache
from tests.training.test_image_cache import draw, spec
threads = set()
def make(row):
    threads.add(threading.get_ident())
    time.sleep(0.001)
    return draw(row)
open_cache(spec(), make, folder=Path("{tmp_path}"))
print(len(threads))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_cache_is_built_anew(tmp_path, share):
    open_cache(spec(), draw, folder=tmp_path)
    path = only_file(tmp_path)
    os.truncate(path, int(path.stat().st_size * share))
    again = Counted()
    assert_holds_the_drawn_rows(open_cache(spec(), again, folder=tmp_path))
    assert again.calls == NUM_IMAGES


@pytest.mark.parametrize("place", np.linspace(0, 0.95, 20).tolist())
def test_a_cache_with_a_stretch_of_zeros_is_never_read_as_it_is(tmp_path, place):
    """As after a power cut, on a file system that had promised otherwise."""
    open_cache(spec(), draw, folder=tmp_path)
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 400] = bytes(len(content[start : start + 400]))
    path.write_bytes(content)
    assert_holds_the_drawn_rows(open_cache(spec(), draw, folder=tmp_path))


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"something else entirely" * 1000])
def test_a_foreign_file_is_replaced(tmp_path, content):
    (tmp_path / spec().file_name).write_bytes(content)
    assert_holds_the_drawn_rows(open_cache(spec(), draw, folder=tmp_path))


def test_the_cache_of_another_content_is_not_read_under_this_name(tmp_path):
    open_cache(spec(identity="b"), draw, folder=tmp_path)
    only_file(tmp_path).rename(tmp_path / spec().file_name)
    again = Counted()
    open_cache(spec(), again, folder=tmp_path)
    assert again.calls == NUM_IMAGES


def test_an_interrupted_build_leaves_no_cache_and_stops_soon(tmp_path):
    interrupted = Counted()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    large = CacheSpec(data_set="test", side=SIDE, num_images=20_000, has_masks=True, identity="large")
    with pytest.raises(KeyboardInterrupt):
        open_cache(large, interrupted, folder=tmp_path, progress=stop)
    assert interrupted.calls < large.num_images / 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = (tmp_path / spec().file_name).with_suffix(".4711.partial")
    left.write_bytes(b"half")
    open_cache(spec(), draw, folder=tmp_path)
    assert not left.exists()


def test_an_error_of_one_image_reaches_the_caller(tmp_path):
    def fail(row: int) -> Picture:
        raise DataError("a.jpg: file must be readable")

    with pytest.raises(DataError, match=r"^a\.jpg"):
        open_cache(spec(), fail, folder=tmp_path)


def test_two_threads_that_want_one_cache_build_it_once(tmp_path):
    counted, found = Counted(), []
    threads = [Thread(target=lambda: found.append(open_cache(spec(), counted, folder=tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.calls == NUM_IMAGES
    for cached in found:
        assert_holds_the_drawn_rows(cached)


LOAD = """
import sys
from pathlib import Path
from gcc_search.settings import DataSettings
from gcc_search.training.datasets import load_dataset
built = []
data = load_dataset(DataSettings(name="shapes", num_images=200), image_size=32, cache=Path(sys.argv[1]),
                    progress=lambda done, total: built.append(done))
print(data.fingerprint, int(data.train.images.sum()), len(built))
"""


def test_two_processes_that_build_at_once_agree(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", LOAD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    (one, other) = (process.communicate(timeout=100)[0].split() for process in processes)
    assert one[:2] == other[:2]
    # Whoever came second waited, and read.
    assert {one[2], other[2]} == {"0", "200"}


FILL_DISK = """
import resource, sys
from pathlib import Path
from tests.training.test_image_cache import draw, spec
from gcc_search.errors import DataError
from gcc_search.training.image_cache import open_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    open_cache(spec(), draw, folder=Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100, NUM_IMAGES * 4 * SIDE * SIDE], ids=["scratch", "cache"])
def test_a_file_that_cannot_grow_is_one_line_and_leaves_nothing(tmp_path, limit):
    command = [sys.executable, "-c", FILL_DISK, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{tmp_path}: image cache must be a writable folder")
    assert "File too large" in done.stdout
    assert "GCC_SEARCH_CACHE" in done.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


def test_a_cache_larger_than_the_disk_is_refused_before_it_is_built(tmp_path):
    huge = CacheSpec(data_set="test", side=1024, num_images=10**9, has_masks=False, identity=None)
    with pytest.raises(DataError, match=r"GB free of the \d+\.\d GB that building it takes; set GCC_SEARCH_CACHE"):
        open_cache(huge, draw, folder=tmp_path)


def test_a_cache_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match=r"image cache must be a writable folder .* got: "):
        open_cache(spec(), draw, folder=tmp_path / "cache")


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GCC_SEARCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder(tmp_path / "chosen") == tmp_path / "chosen"
    monkeypatch.delenv("GCC_SEARCH_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "gcc-search"
