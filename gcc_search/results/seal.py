"""A Parquet file's own sha256, kept inside it: what is torn or changed is told before anything parses it.

Parquet's page checksums cover the data pages only. Of single bits flipped in an epochs.parquet (pyarrow 26), one in six
of those in the footer read without a word as another unit, meaning, version or column name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

# The mark stands in the footer's key-value metadata, as text: any Parquet reader opens the file and ignores it.
KEY = "gcc_search.sha256"
_MARK = f"{KEY}=".encode()
_BLANK = b"0" * 64

# A footer of ours is some 12,000 bytes long, and the mark is in it; so many from the end are all of a short file.
TAIL_BYTES = 1 << 15
_MAGIC = b"PAR1"
# The footer's length, as four bytes, and the magic.
_TRAILER_BYTES = 8


def sealed_parquet(table: pa.Table) -> bytes:
    """A Parquet file that carries the sha256 of its own bytes, the digest's 64 places read as 0."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: (_MARK + _BLANK).decode()})
    blank: bytes = sink.getvalue().to_pybytes()
    start, end = _digest_place(blank)
    return blank[:start] + _digest(blank) + blank[end:]


def is_whole(content: bytes) -> bool:
    """True where `content` is, to the last bit, what `sealed_parquet` made."""
    if _MARK not in content:
        return False
    start, end = _digest_place(content)
    return content[start:end] == _digest(content[:start] + _BLANK + content[end:])


def ends_are_whole(head: bytes, tail: bytes, size: int) -> bool:
    """True where a file of `size` bytes begins and ends as `sealed_parquet` made it; a short one, to the last bit.

    Notices what was cut short, has grown, is zeroed at an end or is not ours. What changed between the ends only
    `is_whole` can tell, so nothing is parsed on this word.

    Args:
        head: the first four bytes. tail: the last `TAIL_BYTES`.
    """
    if len(tail) == size:
        return is_whole(tail)
    footer = int.from_bytes(tail[-_TRAILER_BYTES:-4], "little")
    fits = len(_MAGIC) + footer + _TRAILER_BYTES <= size
    return head == _MAGIC and tail.endswith(_MAGIC) and fits and _MARK in tail[-_TRAILER_BYTES - footer :]


def read_sealed(content: bytes, columns: Iterable[str] | None = None) -> pa.Table:
    """The table of a whole file, with those of `columns` that it has. Call `is_whole` first: Arrow is no judge of torn
    bytes."""
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    there = file.schema_arrow.names
    asked = None if columns is None else [name for name in columns if name in there]
    # Without Arrow's pool: a process that had done its work ended with SIGABRT once, of which it is suspected (arrow
    # issue 34314).
    return file.read(columns=asked, use_threads=False)


def _digest_place(content: bytes) -> tuple[int, int]:
    # The last mark is the footer's: text in a data page comes before it.
    start = content.rindex(_MARK) + len(_MARK)
    return start, start + len(_BLANK)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
