"""Database URLs as they may be shown and kept: without the password that they hold."""

from __future__ import annotations

import re

# As SQLAlchemy has it, a password may hold anything but @; in those that it refuses, @ as well.
_IN_FRONT = re.compile(r"(://[^:/@]*:).*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&][^=&]*(?:passw|pwd|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """`url` with `***` for its password, in front of the host or in the query."""
    return _IN_QUERY.sub(r"\1***", _IN_FRONT.sub(r"\1***@", url))


def without_password_of_any(command: str) -> str:
    """A whole command line, with each of its words as `without_password` has it."""
    return " ".join(map(without_password, command.split(" ")))
