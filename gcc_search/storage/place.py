"""Where results lie, as text: a folder, or a bucket's URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import parse_qsl

from gcc_search.errors import ResultsError

FORMS = "a folder, s3://bucket/prefix or gs://bucket/prefix"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/(?P<slash>/?)(?P<rest>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
OPTIONS = {
    "s3": ("endpoint_override", "region", "scheme"),
    "gs": ("endpoint_override", "scheme", "project_id", "anonymous"),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """`scheme://bucket/key?query`. `key` neither begins nor ends with a slash; empty for the bucket itself."""

    scheme: str
    bucket: str
    key: str
    query: str = ""

    def __str__(self) -> str:
        return f"{self.url}?{self.query}" if self.query else self.url

    @property
    def url(self) -> str:
        """Without the query, as in messages."""
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    @property
    def options(self) -> dict[str, str]:
        return dict(parse_qsl(self.query))

    def at(self, key: str) -> Place:
        """Another place in the same bucket."""
        return replace(self, key=key)


def is_url(text: str) -> bool:
    """Whether `text` means a place other than a folder."""
    return _URL.fullmatch(text) is not None


def parse_place(text: str) -> Place:
    """The place that a URL means.

    Raises:
        ResultsError: another scheme, no bucket, a key that no folder could have, or an unknown option.
    """
    match = _URL.fullmatch(text)
    scheme = match["scheme"] if match else ""
    if match is None or scheme not in OPTIONS or not match["slash"]:
        raise ResultsError(
            f"{text}: must be {FORMS}, got {scheme or text}:/{match['slash'] if match else ''}; correct it"
        )
    bucket, _, key = match["rest"].partition("/")
    if not bucket:
        raise ResultsError(f"{text}: must name a bucket, got none; as in {scheme}://bucket/prefix")
    if any(part in ("", ".", "..") for part in key.rstrip("/").split("/")) and key.strip("/"):
        raise ResultsError(f"{text}: must be a plain path in its bucket, got empty parts or dots; correct it")
    place = Place(scheme=scheme, bucket=bucket, key=str(PurePosixPath(key)) if key.strip("/") else "")
    place = replace(place, query=match["query"] or "")
    unknown = [name for name, _ in parse_qsl(place.query, keep_blank_values=True) if name not in OPTIONS[scheme]]
    if unknown:
        raise ResultsError(f"{text}: options must be of {', '.join(OPTIONS[scheme])}, got {unknown[0]}; correct it")
    return place
