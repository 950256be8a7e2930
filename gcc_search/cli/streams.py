"""Standard output and error as whoever started us left them: in an encoding of their own, or closed."""

from __future__ import annotations

import io
import os
import sys


def make_sayable() -> None:
    """From now on anything can be said: what an encoding lacks is escaped, what is closed leads nowhere."""
    _occupy()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115 - a descriptor, for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _occupy() -> None:
    """No file that is opened later gets the number of a closed stream, and with it what is said to it."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
