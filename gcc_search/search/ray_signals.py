"""Ray started without handlers of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ray._private import utils as ray_utils


@contextlib.contextmanager
def ray_leaves_signals() -> Iterator[None]:
    """Within, Ray sets no handler of SIGTERM: its own raises SystemExit wherever it starts, or ends the process."""
    theirs = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = theirs
