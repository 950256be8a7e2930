"""The network that a trial begins with. Trials of one process that begin alike draw its weights, or read them, once."""

from __future__ import annotations

import copy
import functools

from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.weights import weights_file

# In a process: a search of three networks in turn has each of them ready.
KEPT = 3


def fresh_network(name: str, *, num_classes: int, weights: str, seed: int) -> Network:
    """`build_network`'s, bit for bit; from a file that has not changed, or none, the second time without a draw.

    Raises:
        WeightsError: see `build_network`.
    """
    return copy.deepcopy(_built(name, num_classes, weights, seed, _state_of_file(name, weights)))


@functools.lru_cache(maxsize=KEPT)
def _built(name: str, num_classes: int, weights: str, seed: int, state: tuple[int, ...]) -> Network:
    return build_network(name, num_classes=num_classes, weights=weights, seed=seed)


def _state_of_file(name: str, weights: str) -> tuple[int, ...]:
    """Another one once the file is written again."""
    if weights == "none":
        return ()
    try:
        found = weights_file(name, weights).stat()
    except OSError:
        # `build_network` has the words for it.
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns)
