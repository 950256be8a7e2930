"""A bucket that fails: what passes is waited for, what does not is one line, and no half of a file is ever taken."""

from __future__ import annotations

import os
import threading
import time

import pytest

from gcc_search.atomic import write_atomically
from gcc_search.errors import ResourceError, ResultsError, StorageError
from gcc_search.identity import Identity
from gcc_search.patience import Contact
from gcc_search.storage import outage
from gcc_search.storage.bucket import Bucket
from gcc_search.storage.mirror import last_change, local_folder, mirror_of, names_in, pull
from gcc_search.storage.outage import OutageError, RefusedError, Tries
from gcc_search.storage.place import parse_place
from gcc_search.working_folder import working_folder
from tests.storage.s3_server import BUCKET, S3Server

URL = f"s3://{BUCKET}/runs"
CONTENT = bytes(range(256)) * 100


def refusal(text: str) -> str:
    """The one line that opening `text` ends in."""
    with pytest.raises(ResultsError) as caught, local_folder(text):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(server: S3Server) -> list[str]:
    return sorted(path.relative_to(server.root / BUCKET).as_posix() for path in server.root.glob(f"{BUCKET}/**/*.*"))


def test_what_is_written_here_lies_there_and_is_found_from_elsewhere(s3):
    with local_folder(URL) as folder:
        write_atomically(folder / "one" / "run.json", CONTENT)
        here = folder
    assert not here.exists()
    assert (s3.root / BUCKET / "runs/one/run.json").read_bytes() == CONTENT
    with local_folder(URL) as folder:
        assert not folder.exists()
        pull(folder)
        assert (folder / "one" / "run.json").read_bytes() == CONTENT


def test_only_what_is_wanted_is_fetched_and_what_is_here_is_not_fetched_again(s3):
    with local_folder(URL) as folder:
        for name in ("one/run.json", "one/network.safetensors", "two/run.json"):
            write_atomically(folder / name, CONTENT)
    os.utime(s3.root / BUCKET / "runs/one/run.json", (0, 0))
    s3.requests.clear()
    with local_folder(f"{URL}/one") as folder:
        pull(folder, "run.json")
        pull(folder, "run.json")
        assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert s3.fetched() == [f"/{BUCKET}/runs/one/run.json"]


def test_what_is_replaced_within_a_second_by_as_many_bytes_is_fetched_again(s3):
    path, now = s3.root / BUCKET / "runs/one/run.json", int(time.time()) + 1
    path.parent.mkdir(parents=True)
    with local_folder(URL) as folder:
        for content in (b"1", b"2"):
            path.write_bytes(content)
            os.utime(path, (now, now))
            pull(folder)
            assert (folder / "one/run.json").read_bytes() == content


def test_a_file_of_many_parts_arrives_whole(s3):
    content = CONTENT * 600
    with local_folder(URL) as folder:
        write_atomically(folder / "big.bin", content)
    assert sum("partNumber" in line for line in s3.requests) > 1
    assert (s3.root / BUCKET / "runs/big.bin").read_bytes() == content


def test_a_few_errors_of_the_server_are_waited_for(s3):
    with local_folder(URL) as folder:
        s3.num_errors = 3
        write_atomically(folder / "run.json", CONTENT)
        s3.num_errors = 2
        pull(folder)
    assert s3.num_errors == 0
    assert kept(s3) == ["runs/run.json"]


def test_a_server_that_never_recovers_is_one_line_after_the_limit(s3, monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "1.5")
    with local_folder(URL) as folder:
        s3.num_errors = 1000
        began = time.monotonic()
        with pytest.raises(StorageError) as caught:
            write_atomically(folder / "run.json", CONTENT)
    assert 1.5 <= time.monotonic() - began < 5
    told = str(caught.value)
    assert told.startswith(f"s3://{BUCKET}: must answer, got: INTERNAL_FAILURE in PutObject (as the test asks) (tried")
    assert told.endswith("check the network and the endpoint")
    assert kept(s3) == []


def test_a_refused_connection_is_one_line_and_the_second_comes_at_once(s3, monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "1")
    bucket = Bucket(parse_place(URL))
    s3.stop()
    with pytest.raises(StorageError, match=r"must answer, got: NETWORK_CONNECTION in HeadObject \(Failed to connect"):
        bucket.look("x")
    began = time.monotonic()
    with pytest.raises(StorageError):
        bucket.look("x")
    assert time.monotonic() - began < 0.5
    with s3.running():
        assert bucket.look("x") is None
        # It answered again, and is waited for again.
        s3.num_errors = 1
        assert bucket.look("x") is None


def test_the_limit_that_was_set_holds_for_what_has_one_of_its_own(monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "0.3")

    def fail() -> None:
        raise OSError("as the test asks")

    began = time.monotonic()
    with pytest.raises(StorageError, match="must answer, got: as the test asks"):
        Tries("s3://bucket")(fail, limit=5.0)
    assert 0.3 <= time.monotonic() - began < 3


@pytest.mark.parametrize("status", [301, 404, 499])
def test_a_request_that_is_answered_with_no_is_not_tried_again(monkeypatch, status):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "0.3")
    asked = []

    def refuse() -> None:
        asked.append(status)
        raise OSError(f"When writing: AWS Error UNKNOWN (HTTP status {status}) during PutObject operation: no")

    told = f"s3://bucket: must take the request, got: UNKNOWN {status} in PutObject (no); check region, endpoint and "
    with pytest.raises(StorageError) as caught:
        Tries("s3://bucket")(refuse)
    assert (str(caught.value), len(asked)) == (f"{told}credentials", 1)


def test_a_part_that_fails_leaves_no_object_behind(s3, monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "0.1")
    with local_folder(URL) as folder:
        s3.concerned = lambda line: "partNumber=2" in line
        s3.num_errors = 1000
        with pytest.raises(StorageError):
            write_atomically(folder / "big.bin", CONTENT * 600)
    assert kept(s3) == []
    assert s3.num_errors < 1000


def test_a_bucket_that_comes_back_is_told_of_and_goes_on(s3, monkeypatch):
    monkeypatch.setattr(outage, "TOLD_AFTER_SECONDS", 0.0)
    told: list[str] = []
    bucket = Bucket(parse_place(URL))
    bucket.tries.contact = Contact(tell=told.append)
    s3.num_errors = 2
    assert bucket.look("x") is None
    assert [line.split(",")[0].split(":")[0] for line in told] == ["paused", "goes on"]


def test_half_an_object_is_never_taken_for_one(s3):
    with local_folder(URL) as folder:
        write_atomically(folder / "run.json", CONTENT)
    s3.requests.clear()
    s3.num_halves = 2
    with local_folder(URL) as folder:
        pull(folder)
        assert (folder / "run.json").read_bytes() == CONTENT
    assert s3.num_halves == 0
    assert len(s3.fetched()) == 3


def test_a_slow_server_is_waited_for(s3):
    s3.delay_seconds = 0.3
    with local_folder(URL) as folder:
        write_atomically(folder / "run.json", CONTENT)
    assert kept(s3) == ["runs/run.json"]


def test_a_silent_server_is_given_up_and_asked_again(s3, monkeypatch):
    monkeypatch.setattr("gcc_search.storage.bucket.SILENT_SECONDS", 1.0)
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "0.1")
    bucket = Bucket(parse_place(URL))
    s3.delay_seconds = 4.0
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"Less than 1 bytes/sec"):
        bucket.look("x")
    assert time.monotonic() - began < 4
    s3.delay_seconds = 0.0


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_ACCESS_KEY_ID", "INVALID_ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH")],
)
def test_wrong_credentials_are_one_line_at_once(s3, monkeypatch, variable, code):
    monkeypatch.setenv(variable, "wrong")
    began = time.monotonic()
    assert refusal(URL) == (
        f"s3://{BUCKET}: credentials must allow to list, read and write, got {code} in ListObjectsV2; "
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    assert time.monotonic() - began < 2
    assert len(s3.requests) == 1


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
def test_a_session_that_has_ended_is_one_line_at_once(s3, code):
    s3.error, s3.num_errors = (400, code), 1
    assert refusal(URL) == (
        f"s3://{BUCKET}: credentials must allow to list, read and write, got {code} in ListObjectsV2; "
        "check AWS_SESSION_TOKEN"
    )


def test_a_refusal_without_a_reason_may_be_of_the_credentials(s3):
    bucket = Bucket(parse_place(URL))
    s3.error, s3.num_errors = (400, "ExpiredToken"), 1
    with pytest.raises(
        StorageError, match=r"got: UNKNOWN 400 in HeadObject .*; check region, endpoint and credentials"
    ):
        bucket.look("x")


def test_credentials_that_were_good_are_tried_again(s3):
    with local_folder(URL) as folder:
        write_atomically(folder / "run.json", CONTENT)
        s3.error, s3.num_errors = (403, "AccessDenied"), 2
        write_atomically(folder / "trial.json", CONTENT)
        s3.num_errors = 2
        assert names_in(folder) == {"run.json", "trial.json"}
    assert s3.num_errors == 0


def test_credentials_that_were_good_and_no_more_are_one_line_after_a_while(s3, monkeypatch):
    monkeypatch.setattr(outage, "REFUSED_SECONDS", 1.0)
    with local_folder(URL) as folder:
        write_atomically(folder / "run.json", CONTENT)
        s3.error, s3.num_errors = (403, "AccessDenied"), 1000
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"credentials must allow .*, got ACCESS_DENIED in PutObject") as caught:
            write_atomically(folder / "trial.json", CONTENT)
    assert caught.type is StorageError, "who reads of a worker's death goes by this name"
    assert 1.0 <= time.monotonic() - began < 5


def test_a_refusal_after_an_outage_has_its_own_patience(s3, monkeypatch):
    """As of a proxy that starts: it fails first, and then refuses for a moment."""
    monkeypatch.setattr(outage, "REFUSED_SECONDS", 1.0)
    monkeypatch.setattr(outage, "LONGEST_WAIT_SECONDS", 0.2)
    with local_folder(URL) as folder:
        write_atomically(folder / "run.json", CONTENT)
        s3.error, s3.num_errors = (500, "InternalError"), 1000

        def starts() -> None:
            time.sleep(1.5)
            s3.error, s3.num_errors = (403, "AccessDenied"), 2

        thread = threading.Thread(target=starts)
        thread.start()
        write_atomically(folder / "trial.json", CONTENT)
        thread.join()
    assert kept(s3) == ["runs/run.json", "runs/trial.json"]


def test_a_worker_begins_where_its_driver_could_write(s3, tiny_trial):
    s3.error, s3.num_errors = (403, "AccessDenied"), 2
    with working_folder(f"{URL}/tiny", "trials/t1", tiny_trial, Identity(id="t1"), print) as folder:
        write_atomically(folder / "trial.json", CONTENT)
    assert s3.num_errors == 0
    assert kept(s3) == ["runs/tiny/trials/t1/trial.json"]


def test_credentials_that_may_only_read_are_refused_at_once(s3):
    s3.concerned = lambda line: line.startswith("PUT ")
    s3.error, s3.num_errors = (403, "AccessDenied"), 1000
    with local_folder(URL) as folder, pytest.raises(StorageError, match=r"got ACCESS_DENIED in PutObject; check"):
        write_atomically(folder / "run.json", CONTENT)
    assert s3.num_errors == 999


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (500, "InternalError")])
def test_a_look_or_a_sign_of_life_that_is_refused_is_none(s3, monkeypatch, error):
    monkeypatch.setattr("gcc_search.storage.mirror.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("gcc_search.storage.mirror.LIFE_SECONDS", 0.0)
    with local_folder(URL) as folder:
        record = folder / "tiny/trial.json"
        write_atomically(record, CONTENT)
        known = last_change(record)
        s3.error, s3.num_errors = error, 2
        assert last_change(record) == known > 0
        mirror_of(record).lives(record)
    assert s3.num_errors == 0


def test_a_conflict_of_two_requests_is_tried_again(s3):
    with local_folder(URL) as folder:
        s3.error, s3.num_errors = (409, "OperationAborted"), 2
        write_atomically(folder / "run.json", CONTENT)
    assert s3.num_errors == 0
    assert kept(s3) == ["runs/run.json"]


def test_refusals_before_an_outage_do_not_count_with_those_after_it(monkeypatch):
    monkeypatch.setattr(outage, "REFUSED_SECONDS", 1.5)
    monkeypatch.setattr(outage, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(outage, "LONGEST_WAIT_SECONDS", 0.05)
    began, calls = time.monotonic(), []

    def answer() -> str:
        seconds = time.monotonic() - began
        calls.append("refused" if not calls else "failed" if seconds < 2 else "refused again")
        if calls[-1] == "failed":
            raise OutageError("as the test asks")
        if calls.count("refused again") < 3:
            raise RefusedError("as the test asks")
        return "in the end"

    assert Tries("s3://bucket", were_good=True)(answer) == "in the end"
    assert set(calls) == {"refused", "failed", "refused again"}


def test_a_bucket_that_does_not_exist_is_one_line_at_once(s3):
    assert refusal("s3://other/runs") == (
        "s3://other: bucket must exist, got NO_SUCH_BUCKET; create it or correct its name"
    )
    assert len(s3.requests) == 1


def test_the_address_may_stand_in_the_url(s3, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with local_folder(f"{URL}?endpoint_override={s3.endpoint}") as folder:
        write_atomically(folder / "run.json", CONTENT)
    assert kept(s3) == ["runs/run.json"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://bucket/runs", "must be a folder, s3://bucket/prefix or gs://bucket/prefix, got ftp://; correct it"),
        ("s3:/bucket/runs", "must be a folder, s3://bucket/prefix or gs://bucket/prefix, got s3:/; correct it"),
        ("s3://", "must name a bucket, got none; as in s3://bucket/prefix"),
        ("s3://bucket/a//b", "must be a plain path in its bucket, got empty parts or dots; correct it"),
        ("s3://bucket/../b", "must be a plain path in its bucket, got empty parts or dots; correct it"),
        ("s3://bucket/a?key=1", "options must be of endpoint_override, region, scheme, got key; correct it"),
        ("s3://bucket/a?key=", "options must be of endpoint_override, region, scheme, got key; correct it"),
    ],
)
def test_a_url_of_another_form_is_one_line(text, told):
    assert refusal(text) == f"{text}: {told}"


def test_google_has_the_same_words(monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "0.1")
    monkeypatch.setattr("gcc_search.storage.bucket.SILENT_SECONDS", 1.0)
    told = refusal("gs://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http&anonymous=true")
    assert told.startswith("gs://bucket: must answer, got: ")


def test_a_limit_that_is_no_number_is_one_line(s3, monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "long")
    with pytest.raises(ResourceError, match="GCC_SEARCH_STORAGE_SECONDS: must be a number of seconds, got long"):
        Bucket(parse_place(URL))


def test_an_error_names_the_bucket_and_not_the_scratch(s3):
    with pytest.raises(ResultsError) as caught, local_folder(URL) as folder:
        raise ResultsError(f"{folder}/one: must be a run directory")
    assert str(caught.value) == f"{URL}/one: must be a run directory"


def test_a_folder_is_itself(tmp_path):
    with local_folder(str(tmp_path)) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize(
    ("text", "meant"), [("~", "home"), ("~/runs", "home/runs"), ("./~/runs", "~/runs"), ("~runs", "~runs")]
)
def test_a_home_that_the_shell_left_is_the_users(tmp_path, monkeypatch, text, meant):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with local_folder(text) as folder:
        assert folder.absolute() == tmp_path / meant
