"""What is said of jobs elsewhere; the jobs are known ones, of no cluster (`test_jobs` has one)."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gcc_search.errors import ClusterError
from gcc_search.search.following import print_list, print_logs
from gcc_search.search.frames import write_frame
from gcc_search.search.job_client import JobClient

ID = "raysubmit_0123456789abcdef"


class Known:
    """As `JobClient` answers."""

    def __init__(self, log: str = "") -> None:
        self.log = log

    def info(self, job: str) -> Any:
        return None

    def logs(self, job: str) -> str:
        return self.log

    def jobs(self) -> list[Any]:
        metadata = {"gcc_search": json.dumps({"results": "s3://a-bucket-of-ours/runs/shapes"})}
        times = {"start_time": 1_700_000_000_000, "end_time": 1_700_000_100_000}
        return [SimpleNamespace(submission_id=ID, status="SUCCEEDED", metadata=metadata, **times)]


def printed_by(show: Any, *given: Any, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(*given, console)
    return console.file.getvalue()


def test_the_log_of_a_search_is_its_lines_without_its_tables():
    log = f"begun\n{write_frame('a table')}\n\nended\n{write_frame('a table')}\n"
    assert printed_by(print_logs, "job", Known(log)) == "begun\n\nended\n"
    assert printed_by(print_logs, "job", Known()) == ""


def test_an_id_in_the_list_stays_whole_in_a_narrow_terminal():
    assert f"{ID} " in printed_by(print_list, Known(), width=80)


@pytest.mark.parametrize("job", ["", "..", "a/b", "a?b", "a b", "a\nb"])
def test_what_can_be_no_id_is_asked_of_no_cluster(job):
    client = JobClient.__new__(JobClient)
    client._address, client._client = "http://nowhere", None
    with pytest.raises(ClusterError, match="job: must be one of the cluster's, got one it does not know"):
        client.info(job)
