"""Whose memory is counted."""

import subprocess
import sys

ASK = "import torch; from gcc_search.training.memory import peak_bytes; print(peak_bytes(torch.device('cpu')))"


def test_memory_is_not_taken_over_from_who_started_the_process():
    """What this one holds is nobody else's. torch alone is more than 50 MB, and less than 600."""
    held = bytearray(6 * 10**8)
    answer = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert 50e6 < int(answer.stdout) < len(held)
