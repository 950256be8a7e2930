"""One search that nobody disturbs, watched from outside; made once."""

import pytest

from tests.faults.lives import Undisturbed, run_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Undisturbed:
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"))
