"""What a trial is compared to while it trains: what its baseline has reached so far, which may train beside it."""

from __future__ import annotations

from pathlib import Path

from gcc_search.atomic import fetch
from gcc_search.errors import ResultsError
from gcc_search.patience import Contact
from gcc_search.results.schema import EPOCHS
from gcc_search.results.tables import read_table


class Reference:
    """The validation accuracy of the baseline in `folder` after each epoch so far, in points.

    Args:
        epochs: how many it has; read no more once all are known.
        contact: hears a line, once, of a file that cannot be read. What is not known is not compared.
    """

    def __init__(self, folder: Path, contact: Contact, *, epochs: int) -> None:
        self._path, self._contact, self._epochs = folder / "epochs.parquet", contact, epochs
        self._points: list[float] = []
        self._is_told = False

    @property
    def epochs_known(self) -> int:
        """Of how many epochs it told when it was last asked."""
        return len(self._points)

    def __call__(self) -> list[float]:
        if len(self._points) < self._epochs:
            self._points = self._read()
        return self._points

    def _read(self) -> list[float]:
        try:
            fetch([self._path])
            if not self._path.exists():
                # It has not begun, or is still in its first epoch.
                return []
            points: list[float] = read_table(self._path, EPOCHS, ["accuracy_points"])["accuracy_points"].to_pylist()
        except (ResultsError, OSError) as error:
            if not self._is_told:
                self._contact.tell(f"not compared with its baseline for now: {error}")
                self._is_told = True
            return []
        return points
