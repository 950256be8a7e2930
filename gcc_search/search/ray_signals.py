"""Ray started without handlers of its own."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from ray._private import utils as ray_utils


@contextlib.contextmanager
def ray_leaves_signals() -> Iterator[None]:
    """Within, Ray sets no handler of SIGTERM: its own raises SystemExit wherever it starts, or ends the process.

    One of its C++ part, which prints a stack trace, is kept away by `gcc_search.search`, or else replaced at the end.
    """
    ours = signal.getsignal(signal.SIGTERM)
    theirs = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = theirs
        # Python believes that ours is there still. (None: it was not Python that set it.)
        if ours is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)
