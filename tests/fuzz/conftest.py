from tests.results.conftest import trial_record

__all__ = ["trial_record"]
