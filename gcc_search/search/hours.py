"""How long a search may take: what would not end in time is not started."""

from __future__ import annotations

import time
from collections.abc import Callable


class Hours:
    """Counts from when it is made.

    Args:
        most: as in a space file; None: no limit.
        tell: hears a line when something is not started for the first time.
        clock: seconds.
    """

    def __init__(
        self, most: float | None, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._tell, self._clock = most, tell, clock
        self._began = clock()
        self.have_kept_back = False

    def hold(self, seconds: float | None) -> bool:
        """Whether there is time for what takes so long; None: unknown, which may begin while there is any time."""
        if self._most is None:
            return True
        left = 3600 * self._most - (self._clock() - self._began)
        if left > (seconds or 0.0):
            return True
        if not self.have_kept_back:
            self.have_kept_back = True
            self._tell(f"max_hours: nothing is started from now on that would not end within {self._most:g} h")
        return False
