"""A folder here that mirrors a bucket: what is needed is fetched when it is, what is written goes there at once.

Code that works on folders works on a bucket so. The bucket is the truth, the folder is scratch and goes in the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gcc_search.atomic import as_told, followed, follower_of, replace_file
from gcc_search.errors import GccSearchError, StorageError
from gcc_search.storage.bucket import Bucket, Entry
from gcc_search.storage.outage import OutageError, RefusedError
from gcc_search.storage.place import is_url, parse_place
from gcc_search.storage.scratch import scratch_folder

# How often a sign of life goes to the bucket, and how often one is looked for there: requests cost money.
LIFE_SECONDS, LOOK_SECONDS = 30.0, 15.0
# Times of change are whole seconds: within one, an object may be replaced by another that is listed as the same. What
# is older is known by its time; where our clock is behind the bucket's, it is fetched once more for nothing.
SETTLED_SECONDS = 2.0
# Requests under way at one time; small files wait for answers, not for bandwidth.
FETCHERS = 8
# With a bucket, signs of life come so seldom that silence means something only after this.
LEAST_SILENT_MINUTES = 2.0
RECORD = "trial.json"


class Mirror:
    """`root` is the bucket's own level: the object a/b is the file root/a/b.

    Args:
        fence: a trial's folder of which this process is the only writer; None: no trial is recorded here.
        barred: why nothing may be written any more, as an error's line.
    """

    def __init__(self, bucket: Bucket, root: Path) -> None:
        self.bucket, self.root = bucket, root
        self.fence: Path | None = None
        self.barred: str | None = None
        self._listed: dict[str, Entry] = {}
        self._fetched: dict[str, Entry] = {}
        self._own_record: bytes | None = None
        self._pushed_life = time.monotonic()
        self._looked: dict[Path, tuple[float, int]] = {}
        self._unanswered = float("-inf")

    # What is fetched.

    def pull(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """Fetches what lies below `folder` and is new, where `wanted` holds for its path in `folder`.

        All folders are made, so that one sees which there are.
        """
        key = self.key(folder)
        start = f"{key}/" if key else ""
        entries = {name: entry for name, entry in self.bucket.objects(key).items() if not _is_hidden(name)}
        self._listed = {n: e for n, e in self._listed.items() if not n.startswith(start)} | entries
        for name in entries:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        self._fetch([name for name in entries if wanted(name.removeprefix(start))])

    def fetch(self, paths: Sequence[Path]) -> None:
        keys = [self.key(path) for path in paths]
        with ThreadPoolExecutor(FETCHERS) as pool:
            found = dict(zip(keys, pool.map(self.bucket.look, keys), strict=True))
        there = {key: entry for key, entry in found.items() if entry is not None}
        self._listed |= there
        self._fetch(list(there))

    def _fetch(self, keys: list[str]) -> None:
        new = [key for key in keys if self._fetched.get(key) != self._listed[key] or not (self.root / key).exists()]
        with ThreadPoolExecutor(FETCHERS) as pool:
            for _ in pool.map(self._fetch_one, new):
                pass

    def _fetch_one(self, key: str) -> None:
        content = self.bucket.read(key)
        # Removed since it was listed.
        if content is not None:
            replace_file(self.root / key, content)
            if time.time_ns() - self._listed[key].changed > SETTLED_SECONDS * 1e9:
                self._fetched[key] = self._listed[key]
            if self.fence is not None and self.root / key == self.fence / RECORD:
                self._own_record = content

    def names_in(self, folder: Path) -> frozenset[str]:
        key = self.key(folder)
        start = f"{key}/" if key else ""
        return frozenset(name.removeprefix(start).partition("/")[0] for name in self.bucket.objects(key))

    def has(self, path: Path) -> bool:
        """Whether the file was there, here or in the bucket, when its folder was last pulled."""
        return path.exists() or self.key(path) in self._listed

    def last_change(self, path: Path) -> int:
        """When the object was last written, by the bucket's clock; what was last known where it does not answer now.

        A bucket that does not answer takes half a minute to say so: it is not asked for one object after the other.
        """
        looked, known = self._looked.get(path, (float("-inf"), 0))
        if time.monotonic() - max(looked, self._unanswered) > LOOK_SECONDS:
            try:
                entry = self.bucket.look_once(self.key(path))
                known = entry.changed if entry else 0
            except (OutageError, RefusedError):
                self._unanswered = time.monotonic()
            self._looked[path] = (time.monotonic(), known)
        return known

    # What is written: `atomic.Follower`.

    def wrote(self, path: Path) -> None:
        self._check_fence(path, self.bucket.read)
        self.bucket.write(path.read_bytes(), self.key(path))
        self._note(path)

    def removed(self, path: Path) -> None:
        self._check_fence(path, self.bucket.read)
        self.bucket.remove(self.key(path))

    def removed_tree(self, folder: Path) -> None:
        self._check_fence(folder, self.bucket.read)
        self.bucket.remove_all(self.key(folder))

    def lives(self, path: Path) -> None:
        """One try: what does not arrive is no sign of life, and training goes on meanwhile."""
        if time.monotonic() - self._pushed_life < LIFE_SECONDS:
            return
        with contextlib.suppress(OutageError, RefusedError):
            self._check_fence(path, self.bucket.read_once)
            self.bucket.write_once(path.read_bytes(), self.key(path))
        self._note(path)

    def push_tree(self, folder: Path) -> None:
        """Sends all of `folder`, its record last: without one, nobody takes it for a trial."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(self.key(path)))
        for path in sorted(paths, key=lambda path: path.name == RECORD):
            self.wrote(path)

    def _note(self, path: Path) -> None:
        if path.name == RECORD:
            self._pushed_life = time.monotonic()
            if self.fence == path.parent:
                self._own_record = path.read_bytes()

    def _check_fence(self, path: Path, read: Callable[[str], bytes | None]) -> None:
        """A worker that was taken for lost, and lives, must not write over who took its place.

        A bucket has no locks. So the trial's record there must be as this process left it, before each thing that it
        writes. Between this look and the writing, somebody else's first record may still arrive: then one file of the
        older attempt lands beside it, which the newer one writes again or refuses by its digest, and the older one
        stops at its next.
        """
        if self.barred is not None:
            raise StorageError(self.barred)
        if self.fence is None or not path.is_relative_to(self.fence):
            return
        theirs = read(self.key(self.fence / RECORD))
        mine = (self._own_record, (self.fence / RECORD).read_bytes() if (self.fence / RECORD).exists() else None)
        if theirs is not None and theirs not in mine:
            raise StorageError(
                f"{self.place(self.fence)}: must have one writer, got another's record there: this worker was taken "
                f"for lost, and stops; the later attempt goes on"
            )

    # Names.

    def key(self, path: Path) -> str:
        key = path.relative_to(self.root).as_posix()
        return "" if key == "." else key

    def place(self, path: Path) -> str:
        return str(self.bucket.place.at(self.key(path)))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextlib.contextmanager
def local_folder(text: str | Path, *, were_good: bool = False) -> Iterator[Path]:
    """The folder that `text` names; for a URL one that mirrors it while the body runs: nothing until it is pulled.

    Its parents mirror what lies above the URL, up to the bucket. `were_good`: see `outage.Tries`.

    Raises:
        ResultsError: a URL of no kind that we know. StorageError: the bucket does not answer or refuses.
    """
    if not is_url(str(text)):
        # In quotes a shell leaves it as it was typed.
        yield Path(text).expanduser() if f"{text}/".startswith("~/") else Path(text)
        return
    place = parse_place(str(text))
    bucket = Bucket(place, were_good=were_good)
    with scratch_folder() as scratch:
        root = scratch.resolve() / place.bucket
        folder = root / place.key
        root.mkdir()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with followed(root, Mirror(bucket, root)), _in_known_names():
            yield folder


@contextlib.contextmanager
def _in_known_names() -> Iterator[None]:
    """Who reads an error knows the bucket, not the scratch."""
    try:
        yield
    except GccSearchError as error:
        raise type(error)(as_told(str(error))) from None


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that `path` lies in; None for a folder that is the truth itself."""
    follower = follower_of(path)
    assert follower is None or isinstance(follower, Mirror), "nobody else follows"
    return follower


def pull(folder: Path, *names: str) -> None:
    """Fetches the files called `names`, at any depth below `folder`, where it mirrors a bucket; all without names."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.pull(folder, lambda path: not names or path.rpartition("/")[2] in names)


def names_in(folder: Path) -> frozenset[str]:
    """Names of what lies right in `folder`, in the bucket where it mirrors one; none where there is no folder."""
    if (mirror := mirror_of(folder)) is not None:
        return mirror.names_in(folder)
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def last_change(path: Path) -> int:
    """When the file was last written, by the clock of who keeps it.

    Raises:
        OSError: it is not there, or its disk does not answer.
    """
    mirror = mirror_of(path)
    return path.stat().st_mtime_ns if mirror is None else mirror.last_change(path)


def push_tree(folder: Path) -> None:
    """Sends a folder that was made by other means, where it mirrors a bucket."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.push_tree(folder)
