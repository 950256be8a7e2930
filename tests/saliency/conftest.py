"""What every test of the maths starts from."""

import pytest
import torch


@pytest.fixture
def generator() -> torch.Generator:
    """The same random numbers for a test, wherever and whenever it runs."""
    return torch.Generator().manual_seed(0)
