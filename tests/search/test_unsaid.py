"""A line of Ray's that would tear ours apart."""

from ray.tune.progress_reporter import TrialProgressCallback

from gcc_search.search.unsaid import Unsaid


class Ended:
    """As much of a trial as the callbacks look at."""

    def __init__(self) -> None:
        self.last_result: dict[str, object] = {}


def test_a_trial_that_ends_without_a_report_is_told_by_ray_and_not_by_ours(capsys):
    for callback, is_told in ((TrialProgressCallback(), True), (Unsaid(), False)):
        trial = Ended()
        # What it would print has been printed: nothing was reported since.
        callback._last_result_str[trial] = callback._print_result(trial.last_result)
        callback.on_trial_complete(0, [trial], trial)
        assert ("completed. Last result" in capsys.readouterr().out) == is_told
