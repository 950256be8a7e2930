"""How many networks a search trains, and how long all of them take: arithmetic over counts and seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gcc_search.cost import Cost
from gcc_search.search.jobs import baseline_combinations, start_combinations
from gcc_search.search.machines import Machines
from gcc_search.search.study import trials_per_network
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Needed:
    """How often one kind of network is trained: as a trial, as a baseline, and as what these start from."""

    network: NetworkName
    trials: int
    baselines: int
    starts: int

    def seconds(self, cost: Cost) -> float:
        """Of all of them, one after the other."""
        first = self.baselines * cost.baseline_seconds + self.starts * cost.start_seconds
        return first + self.trials * cost.trial_seconds


def count_networks(space: SearchSpace) -> list[Needed]:
    """By network; where values are drawn, as many baselines and start networks as there may be at most."""
    baselines, starts = baseline_combinations(space), start_combinations(space)
    return [
        Needed(network=network, trials=trials, baselines=min(baselines, trials), starts=min(starts, trials))
        for network, trials in trials_per_network(space).items()
    ]


def trials_take_turns(machines: Machines) -> bool:
    """Whether several share a GPU, which trains them hardly sooner than one after the other."""
    return machines.slots > num_devices(machines)


def num_devices(machines: Machines) -> int:
    """How many trials train at a time without taking turns."""
    shares = machines.num_gpus > 0 and machines.gpus_per_trial < 1
    return min(machines.slots, machines.num_gpus) if shares else machines.slots


def seconds_in_all(costs: Sequence[tuple[Needed, Cost]], machines: Machines) -> float:
    """Of a whole search on these machines.

    Trials and their baseline wait for their start network, however many machines there are.
    """
    shared = sum(needed.seconds(cost) for needed, cost in costs) / num_devices(machines)
    longest = max(
        cost.start_seconds + max(cost.baseline_seconds, math.ceil(needed.trials / machines.slots) * cost.trial_seconds)
        for needed, cost in costs
    )
    return max(shared, longest)
