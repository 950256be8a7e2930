"""How many trials fit on what there is."""

import pytest

from gcc_search.errors import ResourceError
from gcc_search.search.machines import Node, plan_machines
from gcc_search.vocabulary import Resources

HEAD = Node(host="10.0.0.1", num_cpus=0, num_gpus=0)
BIG = Node(host="10.0.0.2", num_cpus=16, num_gpus=4)
SMALL = Node(host="10.0.0.3", num_cpus=3, num_gpus=1)


@pytest.mark.parametrize(
    ("resources", "gpus", "nodes", "slots"),
    [
        ({}, None, [BIG], 4),
        ({}, 2, [BIG], 2),
        ({}, 0, [BIG], 16),
        ({"gpus_per_trial": 0.25}, None, [BIG], 16),
        ({"gpus_per_trial": 0.25, "cpus_per_trial": 2}, None, [BIG], 8),
        ({"gpus_per_trial": 2}, None, [BIG], 2),
        ({"cpus_per_trial": 2}, None, [HEAD, BIG, SMALL], 5),
        ({"trials_per_gpu": 3}, None, [BIG], 12),
        ({"trials_per_gpu": 7}, 1, [BIG], 7),
        ({"trials_per_gpu": 100, "cpus_per_trial": 0.01}, 1, [BIG], 100),
        ({"trials_per_gpu": 4}, 0, [BIG], 16),
        # One on each, until it is measured how many fit.
        ({"trials_per_gpu": "auto"}, None, [BIG], 4),
        # What is left over on two machines does not add up to a trial.
        ({"cpus_per_trial": 9}, 0, [BIG, SMALL], 1),
        ({"gpus_per_trial": 4}, None, [BIG, SMALL], 1),
    ],
)
def test_slots_are_counted_machine_by_machine(resources, gpus, nodes, slots):
    assert plan_machines(Resources(**resources), gpus=gpus, nodes=nodes).slots == slots


@pytest.mark.parametrize("number", range(1, 101))
def test_so_many_shares_fit_on_a_gpu_however_ray_rounds_them(number):
    share = Resources(trials_per_gpu=number).gpu_share
    assert number * round(share * 10_000) <= 10_000
    assert (number + 1) * share > 1


def test_gpus_that_are_still_to_join_are_planned_for():
    machines = plan_machines(Resources(gpus_per_trial=0.5), gpus=8, nodes=[HEAD, SMALL], may_grow=True)
    assert (machines.slots, machines.num_gpus, machines.num_missing_gpus) == (16, 8, 7)


@pytest.mark.parametrize(
    ("resources", "gpus", "nodes", "message"),
    [
        ({}, 9, [BIG, SMALL], "--gpus: must be at most 5, the GPUs of these 2 machines, got 9"),
        ({"cpus_per_trial": 17}, None, [BIG, SMALL], "resources.cpus_per_trial: must be at most 16, what any one mach"),
        ({"gpus_per_trial": 5}, None, [BIG, SMALL], "resources.gpus_per_trial: must be at most 4, what any one mach"),
        ({"gpus_per_trial": 2}, 1, [BIG], "resources.gpus_per_trial: must be at most 1, what 10.0.0.2 may use, got 2"),
        ({}, None, [HEAD], "resources.cpus_per_trial: must be at most 0, what 10.0.0.1 may use, got 1; --gpus N waits"),
    ],
)
def test_what_fits_nowhere_is_one_line(resources, gpus, nodes, message):
    with pytest.raises(ResourceError) as error:
        plan_machines(Resources(**resources), gpus=gpus, nodes=nodes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
