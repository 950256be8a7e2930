"""One search that nobody disturbs, watched from outside; made once."""

import pytest

from tests.faults.lives import Undisturbed, run_undisturbed
from tests.once import made_once


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Undisturbed:
    return made_once(tmp_path_factory, "undisturbed", run_undisturbed)
