"""A Parquet file's own sha256, kept inside it: what is torn or changed is told before anything parses it.

Parquet's page checksums cover the data pages only. Of single bits flipped in an epochs.parquet (pyarrow 26), one in six
of those in the footer read without a word as another unit, meaning, version or column name.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

# The mark stands in the footer's key-value metadata, as text: any Parquet reader opens the file and ignores it.
KEY = "gcc_search.sha256"
_MARK = f"{KEY}=".encode()
_BLANK = b"0" * 64


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


def read_sealed(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table of a whole file. Call `is_whole` first: Arrow is no judge of torn bytes."""
    return pq.read_table(pa.BufferReader(content), columns=columns, page_checksum_verification=True)


def _digest_place(content: bytes) -> tuple[int, int]:
    # The last mark is the footer's: text in a data page comes before it.
    start = content.rindex(_MARK) + len(_MARK)
    return start, start + len(_BLANK)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
