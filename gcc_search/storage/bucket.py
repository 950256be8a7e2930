"""The objects of one bucket through pyarrow: whole ones in, whole ones out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyarrow import fs

from gcc_search.storage.outage import CONNECT_SECONDS, OPENING_SECONDS, SILENT_SECONDS, OutageError, Tries
from gcc_search.storage.place import Place


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object as it is listed: bytes, and when it was last written, in nanoseconds of the bucket's clock."""

    size: int
    changed: int


class Bucket:
    """Keys are relative to the bucket. What fails is tried again (see `outage`)."""

    def __init__(self, place: Place, *, were_good: bool = False) -> None:
        """Opens the bucket of `place` and looks whether it may be listed there. `were_good`: see `Tries`.

        Raises:
            StorageError: it does not answer, there is no such bucket, or the credentials are refused.
        """
        self.place = place.at("")
        self.tries = Tries(self.place.url, were_good=were_good)
        self._fs = self.tries(lambda: _open(place), limit=OPENING_SECONDS)
        # Nothing is called so: one request, whatever lies there.
        probe = fs.FileSelector(self._path(f"{place.key}/.gcc-search".lstrip("/")), recursive=True)
        try:
            self.tries(lambda: self._fs.get_file_info(probe), limit=OPENING_SECONDS)
        except FileNotFoundError:
            return

    def objects(self, key: str) -> dict[str, Entry]:
        """Every object below `key`, by its key; one request for each thousand."""
        infos = self._infos(key, recursive=True)
        found = ((info.path.partition("/")[2], _entry(info)) for info in infos)
        return {name: entry for name, entry in found if entry is not None}

    def folders(self, key: str) -> list[str]:
        """Names of the folders right below `key`."""
        if self.place.scheme == "gs":
            # Google's are not listed unless somebody made them (pyarrow 26), and what lies in them is.
            below = (name.removeprefix(f"{key}/").partition("/") for name in self.objects(key))
            return sorted({name for name, slash, _ in below if slash})
        return sorted(info.base_name for info in self._infos(key) if info.type == fs.FileType.Directory)

    def look(self, key: str) -> Entry | None:
        """The object at `key`, or None."""
        return _entry(self.tries(lambda: self._fs.get_file_info(self._path(key))))

    def look_once(self, key: str) -> Entry | None:
        """As `look`, in one try.

        Raises:
            OutageError: it failed.
        """
        return _entry(self.tries.once(lambda: self._fs.get_file_info(self._path(key))))

    def read(self, key: str) -> bytes | None:
        """The object's content, all of it; None where there is none."""
        try:
            return self.tries(lambda: self._read(key))
        except FileNotFoundError:
            return None

    def read_once(self, key: str) -> bytes | None:
        """As `read`, in one try.

        Raises:
            OutageError: it failed.
        """
        try:
            return self.tries.once(lambda: self._read(key))
        except FileNotFoundError:
            return None

    def write(self, content: bytes, key: str) -> None:
        """Replaces the object at `key`. Others see the old one or the new one."""
        self._told_of_the_bucket(lambda: self.tries(lambda: self._write(content, key)))

    def write_once(self, content: bytes, key: str) -> None:
        """As `write`, in one try.

        Raises:
            OutageError: it failed.
        """
        self._told_of_the_bucket(lambda: self.tries.once(lambda: self._write(content, key)))

    def _told_of_the_bucket(self, write: Callable[[], None]) -> None:
        """Where something is to be written, only the bucket can be missing: Google lists one that does not exist."""
        try:
            write()
        except FileNotFoundError:
            raise self.tries.missing("NOT_FOUND") from None
        self.tries.were_good = True

    def remove(self, key: str) -> None:
        """Removes the object at `key`, if there is one."""
        try:
            self.tries(lambda: self._fs.delete_file(self._path(key)))
        except FileNotFoundError:
            return

    def remove_all(self, key: str) -> None:
        """Removes whatever lies below `key`."""
        try:
            self.tries(lambda: self._fs.delete_dir(self._path(key)))
        except FileNotFoundError:
            return

    def _infos(self, key: str, *, recursive: bool = False) -> list[Any]:
        selector = fs.FileSelector(self._path(key), recursive=recursive)
        try:
            found: list[Any] = self.tries(lambda: self._fs.get_file_info(selector))
        except FileNotFoundError:
            return []
        return found

    def _path(self, key: str) -> str:
        return f"{self.place.bucket}/{key}".rstrip("/")

    def _read(self, key: str) -> bytes:
        with self._fs.open_input_file(self._path(key)) as file:
            if file.closed:
                # Google's files that could not be opened, for whatever reason, are given back closed (pyarrow 26).
                if _entry(self._fs.get_file_info(self._path(key))) is None:
                    raise FileNotFoundError(key)
                raise OutageError(f"{key} could not be opened")
            size = file.size()
            content: bytes = file.read()
        if len(content) != size:
            # Replaced between two requests, or cut off by something on the way that hides it.
            raise OutageError(f"{len(content)} of {size} bytes of {key}")
        return content

    def _write(self, content: bytes, key: str) -> None:
        # Not `fs.copy_files`: it closes the stream in a destructor, and a refused upload passes for a good one
        # (pyarrow 26). Whatever ends the body closes the stream, and what is closed is there: nothing may fail in it.
        with self._fs.open_output_stream(self._path(key)) as stream:
            stream.write(content)


def _entry(info: Any) -> Entry | None:
    return Entry(size=info.size, changed=info.mtime_ns) if info.type == fs.FileType.File else None


def _open(place: Place) -> Any:
    options = place.options
    if place.scheme == "gs":
        return fs.GcsFileSystem(
            endpoint_override=options.get("endpoint_override"),
            scheme=options.get("scheme"),
            project_id=options.get("project_id"),
            anonymous=options.get("anonymous") == "true",
            retry_time_limit=timedelta(seconds=SILENT_SECONDS),
        )
    # pyarrow's own reading of the environment leaves these two out.
    variables = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    endpoint = options.get("endpoint_override") or next(filter(None, variables), None)
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        # A server of one's own has none, but its name is signed.
        region = "us-east-1" if endpoint else fs.resolve_s3_region(place.bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        scheme=options.get("scheme", "https"),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        # Small files are then one request.
        allow_delayed_open=True,
    )
