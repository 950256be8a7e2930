"""Which network the next trial is asked for: in turn, and towards the end the slow ones first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcc_search.search.study import NetworkStudy
from gcc_search.search.turns import Turns
from tests.search.conftest import make_space
from tests.search.test_study import make_record, make_study


@pytest.fixture
def studies():
    """Of a quick network and a slow one, ten trials each."""
    space = make_space(networks=["convnet_small", "resnet18"], run_cap=20)
    return [renamed(make_study(space, cap=10), network) for network in ("convnet_small", "resnet18")]


def renamed(study: NetworkStudy, network: str) -> NetworkStudy:
    study.network = network
    return study


def told(turns: Turns, **changes) -> Turns:
    turns.add(replace(make_record(), **changes))
    return turns


def with_seconds(slots: int, **changes) -> Turns:
    turns = told(Turns(slots, 20), network="convnet_small", device_seconds=1.0, **changes)
    return told(turns, network="resnet18", device_seconds=4.0, **changes)


def order(turns: Turns, studies: list[NetworkStudy]) -> str:
    """The first letters of the networks, until all their trials have been asked for."""
    asked = []
    while left := [study for study in studies if not study.is_exhausted]:
        chosen = turns.choose(left)
        chosen.ask()
        asked.append(chosen.network[0])
    return "".join(asked)


def test_networks_take_turns_while_nothing_is_known(studies):
    assert order(Turns(4, 20), studies) == "cr" * 10


def test_of_a_network_whose_trials_take_an_unknown_time_there_are_no_last_ones(studies):
    assert order(told(Turns(4, 20), network="convnet_small"), studies) == "cr" * 10


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        # 50 seconds of one device, of which the last 1.5 x 4 are a slow trial and some quick ones.
        (1, "cr" * 9 + "rc"),
        # The last 1.5 x 4 x 4 = 24: five rounds of five seconds, and with them the ones that were left over.
        (4, "crcrcrcrcrc" + "rrrrr" + "cccc"),
    ],
)
def test_towards_the_end_the_slow_ones_come_first(studies, slots, expected):
    assert order(with_seconds(slots), studies) == expected


def test_on_many_devices_half_of_the_trials_are_the_last(studies):
    """All of one network at once would be drawn without knowing of each other's ends."""
    assert order(with_seconds(64), studies) == "cr" * 5 + "r" * 5 + "c" * 5


@pytest.mark.parametrize("role", ["baseline", "trial"])
def test_seconds_are_those_of_baselines_until_a_trial_has_ended(studies, role):
    assert order(with_seconds(64, role=role), studies)[10] == "r"


def test_what_a_trial_takes_counts_for_more_than_what_its_baseline_takes(studies):
    turns = with_seconds(64, role="baseline")
    # A baseline of four seconds is a trial of eight.
    assert order(told(turns, network="convnet_small", device_seconds=9.0), studies)[10:12] == "cc"


@pytest.mark.parametrize("changes", [{"status": "failed"}, {"role": "start"}])
def test_what_failed_and_what_others_start_from_say_nothing(studies, changes):
    assert order(with_seconds(64, **changes), studies) == "cr" * 10


def test_what_may_be_taken_is_what_the_longest_took_that_finished():
    turns = Turns(1, 20)
    assert turns.most_seconds("convnet_small", "trial") is None
    told(turns, role="baseline", device_seconds=3.0)
    assert [turns.most_seconds("convnet_small", role) for role in ("baseline", "trial", "start")] == [3.0, 6.0, None]
    told(turns, device_seconds=7.0)
    told(turns, device_seconds=5.0)
    # It ended early: what finishes takes longer.
    for status in ("collapsed", "diverged", "stopped", "failed"):
        told(turns, status=status, device_seconds=100.0)
    assert turns.most_seconds("convnet_small", "trial") == 7.0
    assert turns.most_seconds("resnet18", "trial") is None
